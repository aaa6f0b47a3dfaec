"""The statements of the fake Snowflake: what they are, how they run, what the history shows."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from tests.snowflake import engine
from tests.snowflake.engine import Context, Engine, Failed, Result, Session

HISTORY_COLUMNS = (
    "QUERY_ID",
    "QUERY_TEXT",
    "QUERY_TYPE",
    "USER_NAME",
    "ROLE_NAME",
    "WAREHOUSE_NAME",
    "WAREHOUSE_SIZE",
    "QUERY_TAG",
    "EXECUTION_STATUS",
    "ERROR_CODE",
    "ERROR_MESSAGE",
    "START_TIME",
    "END_TIME",
    "TOTAL_ELAPSED_TIME",
    "BYTES_SCANNED",
    "ROWS_PRODUCED",
    "COMPILATION_TIME",
    "EXECUTION_TIME",
    "QUEUED_PROVISIONING_TIME",
    "QUEUED_REPAIR_TIME",
    "QUEUED_OVERLOAD_TIME",
    "CREDITS_USED_CLOUD_SERVICES",
)
_WAIT = re.compile(r"^\s*(?:SELECT|CALL)\s+SYSTEM\$WAIT\s*\(\s*([\d.]+)", re.IGNORECASE)
_ENDS = ("SUCCESS", "FAILED_WITH_ERROR", "FAILED_WITH_INCIDENT", "ABORTED", "DISCONNECTED")


@dataclass(frozen=True)
class Plan:
    """What becomes of a statement instead of being run. Times are seconds; `running` may be
    math.inf.

    error: code, SQLSTATE and message that it ends with. state: what the history shows while it
    runs. dies: seconds that a cancel takes. refused: status and body with which the submit itself
    is answered; `started` says that it runs all the same. stats: of a statement that succeeds.
    """

    pending: float = 0.0
    running: float = 0.0
    error: tuple[str, str, str] | None = None
    state: str = "RUNNING"
    dies: float = 0.0
    refused: tuple[int, dict[str, Any]] | None = None
    started: bool = False
    stats: dict[str, str] = field(default_factory=dict)


@dataclass
class Statement:
    """One statement, or a request of several, whose `children` they are."""

    text: str
    context: Context
    request_id: str = ""
    tag: str = ""
    plan: Plan | None = None
    body: dict[str, Any] = field(default_factory=dict)
    handle: str = field(default_factory=lambda: str(uuid.uuid4()))
    driver: bool = False
    created: float = field(default_factory=time.time)
    ended: float | None = None
    state: str = "QUEUED"
    result: Result | None = None
    error: tuple[str, str, str] | None = None
    children: list[Statement] = field(default_factory=list)
    cancels: int = 0
    session: Session | None = None
    work: asyncio.Task[None] | None = None

    @property
    def live(self) -> bool:
        return self.state not in _ENDS

    def told(self) -> dict[str, Any]:
        """What a test in another process may want to know."""
        return {
            "handle": self.handle,
            "text": self.text,
            "tag": self.tag,
            "state": self.state,
            "rows": self.result.rows if self.result else None,
        }

    def end(self, state: str) -> None:
        if self.live:
            self.state, self.ended = state, time.time()


FOREVER = Plan(running=math.inf)


class Runner:
    """Runs statements on the engine, or by their plan. busy: warehouses that run nothing now."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.busy: set[str] = set()

    async def live(self, statement: Statement) -> None:
        """A statement's whole life."""
        plan, limit = statement.plan, int(statement.body.get("timeout") or 0) or None
        try:
            while statement.context.warehouse.upper() in self.busy:
                statement.state = "QUEUED"
                await asyncio.sleep(0.02)
            if plan is not None:
                statement.state = "QUEUED" if plan.pending else plan.state
                await asyncio.sleep(plan.pending)
                if statement.live:
                    statement.state = plan.state
                await asyncio.wait_for(_sleep(statement, plan.running), limit)
                if plan.error:
                    raise Failed(*plan.error)
                statement.result = Result([("N", "fixed")], [["1"]], plan.stats)
            else:
                statement.state = "RUNNING"
                await asyncio.wait_for(self._execute(statement), limit)
            statement.end("SUCCESS")
        except asyncio.TimeoutError:
            text = f"Statement reached its statement timeout of {limit} second(s) and was canceled."
            statement.error = ("000630", "57014", text)
            statement.end("FAILED_WITH_ERROR")
        except Failed as error:
            statement.error = (error.code, error.state, error.message)
            aborted = error.code == "000604"
            incident = error.state == "XX000"
            statement.end(
                "ABORTED"
                if aborted
                else "FAILED_WITH_INCIDENT"
                if incident
                else "FAILED_WITH_ERROR"
            )

    async def _execute(self, statement: Statement) -> None:
        parameters = {k.upper(): v for k, v in statement.body.get("parameters", {}).items()}
        wanted = int(parameters.get("MULTI_STATEMENT_COUNT", 1))
        parts, bindings = engine.split(statement.text), statement.body.get("bindings") or {}
        if wanted not in (0, len(parts)):
            text = f"Actual statement count {len(parts)} did not match the desired statement count"
            raise Failed("000008", "0A000", f"{text} {wanted}.")
        if len(parts) > 1 and bindings:
            raise Failed("000002", "0A000", "Bindings are not supported with several statements.")
        session = statement.session = self.engine.session(statement.context)
        try:
            if len(parts) == 1:
                statement.result = await self._one(statement, parts[0], engine.bound(bindings))
                return
            await self._several(statement, parts)
        finally:
            await asyncio.to_thread(session.close)

    async def _several(self, statement: Statement, parts: Sequence[str]) -> None:
        at = 0
        for part in parts:
            child = Statement(part, statement.context, tag=statement.tag, state="RUNNING")
            child.session = statement.session
            statement.children.append(child)
            at = statement.text.index(part, at)
            try:
                child.result = await self._one(child, part, [])
                child.end("SUCCESS")
            except Failed as error:
                child.error = (error.code, error.state, error.message)
                child.end("ABORTED" if error.code == "000604" else "FAILED_WITH_ERROR")
                if error.code == "000604":
                    raise
                line = statement.text.count("\n", 0, at)
                column = at - (statement.text.rfind("\n", 0, at) + 1)
                cut = part if len(part) < 30 else f"{part[:27]}..."
                # As "Submitting multiple SQL statements in a single request" shows it.
                text = (
                    "JavaScript execution error: Uncaught Execution of multiple statements failed "
                    f'on statement "{cut}" (at line {line + 1}, position {column}).\n'
                    f"{error.message} in SYSTEM$MULTISTMT at 'throw `Execution of multiple "
                    "statements failed on statement {0} (at line {1}, position {2}).' position 4"
                )
                raise Failed("100132", "P0000", text) from None
            at += len(part)
        statement.result = Result(
            [("multiple statement execution", "text")],
            [["Multiple statements executed successfully."]],
        )

    async def _one(self, statement: Statement, text: str, bindings: Sequence[object]) -> Result:
        if wait := _WAIT.match(text):
            await _sleep(statement, float(wait[1]))
            return Result([("SYSTEM$WAIT", "text")], [[f"waited {wait[1]} seconds"]])
        session = statement.session
        assert session is not None
        running = asyncio.ensure_future(asyncio.to_thread(session.run, text, bindings))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            while not running.done():
                # What has not begun yet is not interrupted, and would run to its end.
                session.interrupt()
                await asyncio.wait({running}, timeout=0.05)
            with contextlib.suppress(Failed):
                running.result()
            raise


async def _sleep(statement: Statement, seconds: float) -> None:
    """As long as it takes, or until somebody stops it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not statement.live:
            raise Failed("000604", "57014", "SQL execution canceled")
        await asyncio.sleep(min(end - time.monotonic(), 0.02))


def history_row(one: Statement, tells_several: bool) -> list[object]:
    end = one.ended or 0.0
    spent = int(((one.ended or time.time()) - one.created) * 1000)
    states = {"FAILED_WITH_ERROR": "FAIL", "FAILED_WITH_INCIDENT": "INCIDENT", "ABORTED": "FAIL"}
    code, _, message = one.error or ("", "", "")
    kind = one.result.kind if one.result else ""
    values: dict[str, object] = {
        "QUERY_ID": one.handle,
        "QUERY_TEXT": one.text,
        "QUERY_TYPE": "MULTI_STATEMENT" if one.children and tells_several else kind,
        "USER_NAME": one.context.user,
        "ROLE_NAME": one.context.role,
        "WAREHOUSE_NAME": one.context.warehouse,
        "WAREHOUSE_SIZE": "X-Small",
        "QUERY_TAG": one.tag,
        "EXECUTION_STATUS": states.get(one.state, one.state),
        "ERROR_CODE": code,
        "ERROR_MESSAGE": message,
        "START_TIME": datetime.fromtimestamp(one.created, timezone.utc),
        "END_TIME": datetime.fromtimestamp(end, timezone.utc),
        "TOTAL_ELAPSED_TIME": spent,
        "BYTES_SCANNED": 1024,
        "ROWS_PRODUCED": len(one.result.rows) if one.result else 0,
        "COMPILATION_TIME": 12,
        "EXECUTION_TIME": spent,
        "QUEUED_PROVISIONING_TIME": 3,
        "QUEUED_REPAIR_TIME": 0,
        "QUEUED_OVERLOAD_TIME": 4,
        "CREDITS_USED_CLOUD_SERVICES": 0.00001,
    }
    return [values[name] for name in HISTORY_COLUMNS]
