"""A Snowflake that speaks the SQL API (v2) over a socket and runs the SQL on a real engine.

https://docs.snowflake.com/en/developer-guide/sql-api/reference

Its four routes, requestId and retry, states that last as long as a test wants, partitions, several
statements, bindings, the query history, logins that are really checked. What Snowflake does with a
requestId that it has seen before is written nowhere for every case, so it is a switch (`Repeat`).

What it cannot be trusted for, beside what engine.py says: how long anything takes; how late the
history is (`lag` is whatever a test says); what the API answers for a handle that it does not know,
or for one of a statement that a driver started (`unknown`, `knows_drivers`: both ways are tried);
which code an error has that no page of Snowflake's names; that a request without `retry` is seen
as a new one.

`python -m tests.snowflake.fake_snowflake flyteagents run examples/snowflake.yaml` runs a command
against it; without one it serves until it is stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import enum
import json
import os
import re
import time
from collections.abc import Sequence
from typing import Any

from tests.snowflake.engine import Context
from tests.snowflake.logins import TOKEN_PATH, Logins, private_key, refused
from tests.snowflake.statements import (
    FOREVER,
    HISTORY_COLUMNS,
    Plan,
    Runner,
    Statement,
    history_row,
)

from flyteagents.testing import Delay, FakeVendor, Request, Response

BASE = "/api/v2/statements"


class Repeat(enum.Enum):
    """What a request with a requestId that was seen before, and `retry=true`, does."""

    SAME = "same"
    """It answers with the first statement, whatever has become of that one."""
    DONE = "done"
    """It does so for a statement that succeeded, which is all that is documented; one that runs
    or has failed is run again."""
    ANEW = "anew"
    """It runs again, as snowflake-connector-nodejs#1189 saw it."""


class FakeSnowflake(FakeVendor):
    """statements: all that were ever started, also look-ups. plans: for statements that contain a
    text. logins: who may come in; None: everybody. repeats: see `Repeat`.

    lag: seconds before the history shows a statement. runner: what runs them.
    hold: seconds that a request without `async` is held. unknown: the answer for a handle that
    it does not know. partition: rows in one. tells_several: whether the history has a type for
    requests of several statements.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(self._handle, host=host, port=port)
        self.runner = Runner()
        self.statements: list[Statement] = []
        self.plans: dict[str, Plan] = {}
        self.logins: Logins | None = None
        self.repeats = Repeat.SAME
        self.lag = 0.0
        self.hold = 45.0
        self.unknown = Response(404, {"code": "390404", "message": "not found"})
        self.knows_drivers = True
        self.partition = 1000
        self.tells_several = True

    def will(self, text: str, plan: Plan) -> None:
        """Statements that contain `text` go by `plan`."""
        self.plans[text] = plan

    @property
    def submitted(self) -> list[Statement]:
        """What was asked for with the key of an attempt in its tag; look-ups have none."""
        return [one for one in self.statements if '"key"' in one.tag]

    @property
    def statement(self) -> Statement:
        """The only one of these."""
        [one] = self.submitted
        return one

    def rows(self, query: str) -> Sequence[Sequence[object]]:
        """What the engine has, for a test to look at."""
        return self.runner.engine.session(self._context({}, "TEST")).run(query).rows

    def add(self, text: str, plan: Plan, **fields: Any) -> Statement:
        """A statement that a driver has started."""
        statement = Statement(text, self._context({}, "ME"), plan=plan, driver=True, **fields)
        self._start(statement)
        return statement

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        for statement in self.statements:
            if statement.work is not None:
                statement.work.cancel()
            if statement.live and statement.session is not None:
                statement.session.interrupt()
        works = [one.work for one in self.statements if one.work is not None]
        await asyncio.gather(*works, return_exceptions=True)
        await super().__aexit__(kind, *rest)
        self.runner.engine.close()

    async def _handle(self, request: Request) -> Response:
        if request.path == TOKEN_PATH and self.logins is not None:
            return self.logins.token(request)
        if request.path == "/statements":  # not Snowflake's: for tests in other processes
            return Response(200, [one.told() for one in self.submitted])
        if not request.path.startswith(BASE):
            return Response(404, {"code": "390404", "message": f"no such URL: {request.path}"})
        if self.logins is not None and (refusal := self.logins.refusal(request)):
            return refusal
        parts = request.path.removeprefix(BASE).strip("/").split("/")
        if parts == [""]:
            return await self._submit(request)
        statement = self._find(parts[0])
        if statement is None:
            return self.unknown
        if parts[1:] == ["cancel"]:
            return self._cancel(statement)
        return self._shown(statement, int(request.query.get("partition") or 0))

    def _find(self, handle: str) -> Statement | None:
        every = [one for top in self.statements for one in (top, *top.children)]
        found = next((one for one in every if one.handle == handle), None)
        return None if found and found.driver and not self.knows_drivers else found

    async def _submit(self, request: Request) -> Response:
        body = request.json()
        if not isinstance(body, dict) or not str(body.get("statement") or "").strip():
            return refused("390142", "Incoming request does not contain a valid payload.", 400)
        request_id = request.query.get("requestId", "")
        known = self._seen(request_id) if request.query.get("retry") == "true" else None
        statement = known or self._made(body, request_id)
        if known is None:
            plan = statement.plan or Plan()
            if plan.refused is None or plan.started:
                self._start(statement)
            if plan.refused is not None:
                status, words = plan.refused
                handle = {"statementHandle": statement.handle} if plan.started else {}
                return Response(status, {**words, **handle})
        if request.query.get("async") != "true":
            assert statement.work is not None
            await asyncio.wait([statement.work], timeout=self.hold)
            return self._shown(statement)
        return self._progress(statement)

    def _seen(self, request_id: str) -> Statement | None:
        found = [one for one in self.statements if request_id and one.request_id == request_id]
        if not found or self.repeats is Repeat.ANEW:
            return None
        done = [one for one in found if one.state == "SUCCESS"]
        return (done[0] if done else None) if self.repeats is Repeat.DONE else found[0]

    def _made(self, body: dict[str, Any], request_id: str) -> Statement:
        parameters = {name.upper(): value for name, value in body.get("parameters", {}).items()}
        statement = body["statement"]
        plan = next((plan for text, plan in self.plans.items() if text in statement), None)
        return Statement(
            statement,
            self._context(body, "ME"),
            request_id,
            str(parameters.get("QUERY_TAG", "")),
            plan,
            body,
        )

    def _context(self, body: dict[str, Any], user: str) -> Context:
        return Context(
            user,
            "ACCT",
            body.get("role", "PUBLIC"),
            body.get("warehouse", "WH"),
            body.get("database", "DB"),
            body.get("schema", "PUBLIC"),
            self._history,
            self._cancel_query,
        )

    def _start(self, statement: Statement) -> None:
        self.statements.append(statement)
        statement.work = asyncio.get_running_loop().create_task(self.runner.live(statement))

    def _cancel(self, statement: Statement) -> Response:
        statement.cancels += 1
        if not statement.live:
            return _problem(422, "000709", "02000", f"Statement {statement.handle} not found", "")
        self._stop(statement)
        return _problem(200, "000604", "57014", "successfully canceled", statement.handle)

    def _stop(self, statement: Statement) -> None:
        plan = statement.plan
        loop = asyncio.get_running_loop()
        loop.call_later(plan.dies if plan else 0.0, self._kill, statement)

    def _kill(self, statement: Statement) -> None:
        if not statement.live:
            return
        statement.error = ("000604", "57014", "SQL execution canceled")
        for child in statement.children:
            child.error = statement.error
            child.end("ABORTED")
        statement.end("ABORTED")
        if statement.session is not None:
            statement.session.interrupt()

    def _cancel_query(self, handle: str) -> str:
        """SYSTEM$CANCEL_QUERY, called from a session's thread."""
        found = next((one for one in self.statements if one.handle == handle), None)
        if found is None or not found.live:
            return f"query [{handle}] is not running or does not exist"
        found.cancels += 1
        found.work and found.work.get_loop().call_soon_threadsafe(self._stop, found)
        return f"query [{handle}] terminated."

    def _shown(self, statement: Statement, partition: int = 0) -> Response:
        if statement.live:
            return self._progress(statement)
        if statement.error is not None:
            code, state, message = statement.error
            status = 408 if code == "000630" else 422
            return _problem(status, code, state, message, statement.handle)
        assert statement.result is not None
        result, size = statement.result, self.partition
        parts = range(0, max(len(result.rows), 1), size)
        if partition >= len(parts):
            return refused("391902", f"Partition {partition} does not exist.", 400)
        data = result.rows[partition * size : (partition + 1) * size]
        if partition:
            return Response(200, {"data": data})
        body: dict[str, Any] = {
            "code": "090001",
            "sqlState": "00000",
            "message": "Statement executed successfully.",
            "statementHandle": statement.handle,
            "createdOn": int(statement.created * 1000),
            "statementStatusUrl": f"{BASE}/{statement.handle}",
            "resultSetMetaData": {
                "numRows": len(result.rows),
                "format": "jsonv2",
                "partitionInfo": [
                    {"rowCount": len(result.rows[at : at + size]), "uncompressedSize": 64}
                    for at in parts
                ],
                "rowType": [
                    {"name": name, "type": of, "nullable": True, "scale": 0}
                    for name, of in result.columns
                ],
            },
            "data": data,
        }
        if result.stats:
            body["stats"] = dict(result.stats)
        if statement.children:
            body["statementHandles"] = [child.handle for child in statement.children]
        return Response(200, body)

    def _progress(self, statement: Statement) -> Response:
        return Response(
            202,
            {
                "code": "333334",
                "message": "Asynchronous execution in progress. Use provided query id to perform "
                "query monitoring and management.",
                "statementHandle": statement.handle,
                "statementStatusUrl": f"{BASE}/{statement.handle}",
            },
        )

    def _history(self, arguments: str) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
        """The rows of QUERY_HISTORY_BY_USER, the newest first; RESULT_LIMIT counts before any
        WHERE does."""
        limit = re.search(r"RESULT_LIMIT\s*=>\s*(\d+)", arguments, re.IGNORECASE)
        every = [one for top in list(self.statements) for one in (top, *top.children)]
        seen = [one for one in every if time.time() >= one.created + self.lag]
        seen.sort(key=lambda one: one.created, reverse=True)
        return HISTORY_COLUMNS, [
            history_row(one, self.tells_several) for one in seen[: int(limit[1]) if limit else 100]
        ]


def _problem(status: int, code: str, state: str, message: str, handle: str) -> Response:
    body = {"code": code, "sqlState": state, "message": message, "statementHandle": handle}
    return Response(status, {name: value for name, value in body.items() if value})


USER, ACCOUNT = "ROBOT", "ACCT"


async def _main() -> int:
    parser = argparse.ArgumentParser(description="Serves a Snowflake that runs SQL on DuckDB.")
    parser.add_argument("--port", type=int, default=0, help="a free one, unless it is named")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each reply")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run against it")
    options = parser.parse_args()
    async with FakeSnowflake(port=options.port) as snowflake:
        snowflake.logins = Logins(keys={f"{ACCOUNT}.{USER}": [0]})
        snowflake.will("forever", FOREVER)
        if options.delay:
            snowflake.script("*", "*", Delay(options.delay), repeat=True)
        variables = {
            "FLYTEAGENTS_SNOWFLAKE_URL": snowflake.url,
            "FLYTEAGENTS_SNOWFLAKE_ACCOUNT": ACCOUNT,
            "FLYTEAGENTS_SNOWFLAKE_USER": USER,
            "FLYTEAGENTS_SECRET_SNOWFLAKE_PRIVATE_KEY": private_key(),
        }
        if options.command:
            process = await asyncio.create_subprocess_exec(
                *options.command, env={**os.environ, **variables}
            )
            return await process.wait()
        print(json.dumps(variables), flush=True)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(_main()))
