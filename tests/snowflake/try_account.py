"""Tries on a real account what Snowflake does where its pages say nothing, and prints it.

    FLYTEAGENTS_LIVE=1 python -m tests.snowflake.try_account

with the variables of test_live.py, and FLYTEAGENTS_SNOWFLAKE_SCHEMA where one may create tables. It
makes one table and drops it. With snowflake-connector-python installed it also tries the queries of
drivers.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import secrets
import time
import uuid
from typing import Any

from tests.snowflake.test_live import Live

from flyteagents import Task
from flyteagents_snowflake import history
from flyteagents_snowflake.history import STATEMENTS, Desk

TABLE = f"FLYTE_TRIAL_{secrets.token_hex(4).upper()}"
WAIT = "CALL SYSTEM$WAIT(20)"


class Trial:
    """Requests as the agent sends them, with a requestId of one's own."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.task: Task[Any] = live.task(config={}, execution=secrets.token_hex(6))
        settings = live.settings
        self.desk = Desk(settings.database, settings.warehouse, settings.role)

    def call(self) -> Any:
        return self.live.call("create", self.task, seconds=60.0)

    async def send(self, statement: str, request_id: str, **parameters: str) -> dict[str, Any]:
        settings = self.live.settings
        body = {
            "statement": statement,
            "warehouse": settings.warehouse,
            "database": settings.database,
            "schema": settings.schema,
            "role": settings.role,
            "parameters": parameters,
        }
        reply = await self.call().http.post(
            STATEMENTS,
            params={"requestId": request_id, "retry": "true", "async": "true"},
            json={name: value for name, value in body.items() if value},
            accept=range(400, 500),
        )
        return {"status": reply.status, **reply.json()}

    async def look(self, handle: str) -> dict[str, Any]:
        path = f"{STATEMENTS}/{handle}"
        reply = await self.call().http.get(path, accept=range(400, 500))
        return {"status": reply.status, **reply.json()}

    async def end(self, handle: str) -> dict[str, Any]:
        while (found := await self.look(handle))["status"] == 202:  # noqa: ASYNC110 # it is remote
            await asyncio.sleep(0.5)
        return found

    async def run(self, statement: str) -> dict[str, Any]:
        return await self.end((await self.send(statement, str(uuid.uuid4())))["statementHandle"])


async def repeated(trial: Trial, name: str, statement: str, *, wait: bool) -> None:
    """Send it twice under one requestId, and say whether there is one statement or two."""
    request_id = str(uuid.uuid4())
    first = await trial.send(statement, request_id)
    if wait:
        ended = await trial.end(first["statementHandle"])
        name = f"{name} (it ended with {ended['status']} {ended.get('code')})"
    second = await trial.send(statement, request_id)
    same = first.get("statementHandle") == second.get("statementHandle")
    told = f"{second['status']} {second.get('code')}"
    print(f"{name}: {'the same statement' if same else 'ANOTHER STATEMENT'}, {told}")
    for one in (first, second):
        if handle := one.get("statementHandle"):
            await trial.call().http.post(f"{STATEMENTS}/{handle}/cancel", accept=range(400, 500))
            await trial.end(handle)


async def lateness(trial: Trial) -> None:
    """How long until the history shows a statement that runs, and one that has ended."""
    for name, statement in (("running", WAIT), ("ended", "SELECT 'ended'")):
        mark = secrets.token_hex(20)
        tag = f'{{"flyte":{{"key":"{mark}","fp":"1-0"}}}}'
        began = time.monotonic()
        sent = await trial.send(statement, str(uuid.uuid4()), query_tag=tag)
        tries = 0
        while await history.by_tag(trial.desk, mark, trial.call()) is None:
            tries += 1
            if time.monotonic() - began > 120:
                break
        seconds = time.monotonic() - began
        print(f"the history shows a statement that is {name} after {seconds:.1f} s, {tries} tries")
        handle = sent["statementHandle"]
        await trial.call().http.post(f"{STATEMENTS}/{handle}/cancel", accept=range(400, 500))


async def drivers(trial: Trial) -> None:
    """Whether the SQL API polls and cancels what a driver has started."""
    try:
        connector: Any = importlib.import_module("snowflake.connector")
    except ImportError:
        print("queries of drivers: not tried; install snowflake-connector-python")
        return
    settings = trial.live.settings
    secret = "FLYTEAGENTS_SECRET_SNOWFLAKE_PRIVATE_KEY"
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(os.environ[secret].encode(), None).private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    connection = await asyncio.to_thread(
        connector.connect,
        account=settings.account,
        user=settings.user,
        private_key=key,
        warehouse=settings.warehouse,
    )
    with contextlib.closing(connection):
        cursor = connection.cursor()
        await asyncio.to_thread(cursor.execute_async, WAIT)
        found = await trial.look(str(cursor.sfqid))
        print(f"a driver's query, polled: {found['status']} {found.get('code')}")
        reply = await trial.call().http.post(
            f"{STATEMENTS}/{cursor.sfqid}/cancel", accept=range(400, 500)
        )
        print(f"a driver's query, cancelled: {reply.status} {reply.json().get('code')}")
        with contextlib.suppress(connector.Error):
            await asyncio.to_thread(cursor.execute, f"SELECT SYSTEM$CANCEL_QUERY('{cursor.sfqid}')")


NEEDED = ("ACCOUNT", "USER", "WAREHOUSE", "DATABASE")


async def main() -> None:
    if os.environ.get("FLYTEAGENTS_LIVE") != "1":
        raise SystemExit("this asks a real account: set FLYTEAGENTS_LIVE=1")
    names = [f"FLYTEAGENTS_SNOWFLAKE_{name}" for name in NEEDED]
    if missing := [name for name in names if not os.environ.get(name)]:
        raise SystemExit(f"this needs an account: set {', '.join(missing)}")
    async with Live().opened() as live:
        assert isinstance(live, Live)
        trial = Trial(live)
        await trial.run(f"CREATE OR REPLACE TABLE {TABLE} (n INT)")
        try:
            slow = "SELECT SEQ8() AS n FROM TABLE(GENERATOR(TIMELIMIT => 20))"
            for name, statement in (
                ("SELECT", WAIT),
                ("INSERT", f"INSERT INTO {TABLE} {slow}"),
                ("CREATE", f"CREATE OR REPLACE TABLE {TABLE} AS {slow}"),
            ):
                await repeated(trial, f"{name} that runs", statement, wait=False)
            for name, statement in (
                ("CREATE", f"CREATE OR REPLACE TABLE {TABLE} (n INT)"),
                ("SELECT", "SELECT 1"),
                ("INSERT", f"INSERT INTO {TABLE} VALUES (1)"),
            ):
                await repeated(trial, f"{name} that succeeds", statement, wait=True)
            for name, statement in (
                ("SELECT", "SELECT 'x'::INT"),
                ("INSERT", f"INSERT INTO {TABLE} SELECT 'x'::INT"),
                ("CREATE", "CREATE TABLE nowhere_at_all.x.y (n INT)"),
            ):
                await repeated(trial, f"{name} that fails", statement, wait=True)
            unknown = await trial.look(str(uuid.uuid4()))
            print(f"an unknown handle: {unknown['status']} {unknown.get('code')}")
            await lateness(trial)
            await drivers(trial)
        finally:
            await trial.run(f"DROP TABLE IF EXISTS {TABLE}")


if __name__ == "__main__":
    asyncio.run(main())
