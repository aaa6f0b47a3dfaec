"""What Snowflake's query history says: a statement by its tag, or a query by its id.

https://docs.snowflake.com/en/sql-reference/functions/query_history

The function shows one's own queries of seven days without any privilege, those that run too. Its
limit counts before the WHERE does, hence the largest; it belongs to a database; and it may have to
wait for a warehouse.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flyteagents import Call, InvalidTask, JobNotFound, Throttled, Unavailable
from flyteagents_snowflake.answers import Rows, answer
from flyteagents_snowflake.literals import text_literal
from flyteagents_snowflake.names import exact, quoted
from flyteagents_snowflake.reasons import words
from flyteagents_snowflake.states import phase_of
from flyteagents_snowflake.tag import marks

STATEMENTS = "/api/v2/statements"
LIMIT = 10_000
_MARGIN = 0.3
"""Seconds that are left for saying that it took too long."""
_SETTLING = 20.0
"""Seconds that the look for an earlier attempt may take, though its caller's time is shorter: the
next attempt waits for the same look, and would else begin it anew, each time in vain."""
# No END_TIME_RANGE_END: with one, the function leaves out what runs still.
_SQL = """SELECT {columns} FROM TABLE({database}.INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER(
RESULT_LIMIT => {limit})) WHERE {where} ORDER BY START_TIME"""
Row = Mapping[str, str | None]


@dataclass(frozen=True)
class Desk:
    """Where and as whom the history is asked."""

    database: str | None
    warehouse: str | None
    role: str | None = None


async def by_tag(
    desk: Desk, key: str, call: Call, *, several: bool = False
) -> tuple[str, str] | None:
    """The id and the fingerprint of the statement whose tag has this key; None where there is
    none. Of two, one that runs or has succeeded goes before one that failed, and the first before
    the later ones. several: it is a request of several statements.

    Raises Throttled or Unavailable while that cannot be known."""
    found = await _rows(
        desk,
        ("QUERY_ID", "QUERY_TAG", "EXECUTION_STATUS", "QUERY_TYPE"),
        "CONTAINS(QUERY_TAG, ?)",
        key,
        call,
    )
    # CONTAINS only narrows it down: the key may stand in a tag of somebody else's, as text.
    ours = [row for row in found if marks(row["query_tag"] or "")[0] == key]
    whole = ours
    if several:
        # Each of its statements has the tag too, and cannot stand for all; the request was first.
        whole = [row for row in ours if row["query_type"] == "MULTI_STATEMENT"] or ours[:1]
    # The sort is stable: among equals the first by START_TIME stays the first.
    whole.sort(key=_failed)
    if not whole:
        return None
    return str(whole[0]["query_id"]), marks(whole[0]["query_tag"] or "")[1]


async def by_id(desk: Desk, query_id: str, columns: Sequence[str], call: Call) -> Row | None:
    """What the history has of a query; None where it has none of this id."""
    found = await _rows(desk, columns, "QUERY_ID = ?", query_id, call)
    return found[0] if found else None


async def cancel_query(desk: Desk, query_id: str, call: Call) -> str:
    """Stop a query that a driver has started. What Snowflake says to it."""
    # System functions take constants; the id is one of hexadecimal digits, or is no job's.
    found = await ask(desk, f"SELECT SYSTEM$CANCEL_QUERY({text_literal(query_id)})", None, call)
    return str(next(iter(found[0].values()))) if found else ""


async def ask(desk: Desk, statement: str, value: str | None, call: Call) -> list[Row]:
    """The rows of a short statement, with one binding or none. Raises Throttled where it does not
    end within the call's time, Unavailable where it fails."""
    seconds = max(call.remaining - _MARGIN, _SETTLING if call.settling else 0.1)
    body: dict[str, Any] = {
        "statement": statement,
        # Rounded up: 0 would be Snowflake's longest timeout.
        "timeout": math.ceil(seconds),
        "bindings": None if value is None else {"1": {"type": "TEXT", "value": value}},
        "database": desk.database and exact(desk.database),
        "warehouse": desk.warehouse and exact(desk.warehouse),
        "role": desk.role and exact(desk.role),
    }
    late = Throttled(
        f"Snowflake did not answer in time: the warehouse "
        f"{desk.warehouse or 'of the user'} is busy, suspended or being resumed"
    )
    request = call.http.post(
        STATEMENTS,
        # Not the attempt's, which stands for the attempt's own statement at Snowflake.
        params={"requestId": str(uuid.uuid4())},
        json={name: part for name, part in body.items() if part is not None},
        accept=(408, 422),
    )
    try:
        found = answer(await asyncio.wait_for(request, seconds), Rows)
    except asyncio.TimeoutError:
        if call.trouble:  # it was not the warehouse: Snowflake could not be asked at all
            raise Unavailable(f"Snowflake did not answer in time: {call.trouble}") from None
        raise late from None
    # It would say that the job is gone, and in a create that the agent has a bug.
    except JobNotFound as error:
        raise Unavailable(error.message, code=error.code) from None
    # Without async too, Snowflake answers 202 when a statement takes long.
    if found.running or found.status == 408:
        raise late
    if not found.succeeded:
        raise Unavailable(
            f"Snowflake's query history cannot be used: {words(found.message)}", code=found.code
        )
    return list(found.rows)


async def _rows(
    desk: Desk, columns: Sequence[str], where: str, value: str, call: Call
) -> list[Row]:
    if not desk.database:
        raise InvalidTask(
            "the query history is read in a database, and the task names none: give it one, or "
            "the service FLYTEAGENTS_SNOWFLAKE_DATABASE"
        )
    statement = _SQL.format(
        columns=", ".join(columns), database=quoted(desk.database), limit=LIMIT, where=where
    )
    return await ask(desk, statement, value, call)


def _failed(row: Row) -> bool:
    phase = phase_of(row["execution_status"] or "")
    return phase is not None and phase.name.endswith(("FAILED", "ABORTED"))
