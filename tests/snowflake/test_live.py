"""Real Snowflake, with your own credentials: what the server of the tests cannot say.

    FLYTEAGENTS_LIVE=1 FLYTEAGENTS_SNOWFLAKE_ACCOUNT=... FLYTEAGENTS_SNOWFLAKE_USER=... \
    FLYTEAGENTS_SNOWFLAKE_WAREHOUSE=... FLYTEAGENTS_SNOWFLAKE_DATABASE=... \
    FLYTEAGENTS_SECRET_SNOWFLAKE_PRIVATE_KEY="$(cat rsa_key.p8)" pytest tests/snowflake/test_live.py

It makes temporary tables only, so it leaves nothing behind but its queries in the history. The
database is needed for its INFORMATION_SCHEMA; nothing in it is read or changed.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from tests.snowflake.driving import Driver

from flyteagents import Phase, Status, StructuredDataset
from flyteagents._kernel.requests import NO_CONNECTION
from flyteagents_snowflake.job import SnowflakeJob
from flyteagents_snowflake.settings import SnowflakeSettings

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        os.environ.get("FLYTEAGENTS_LIVE") != "1", reason="real Snowflake: set FLYTEAGENTS_LIVE=1"
    ),
]
NOON = datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
RUN = secrets.token_hex(6)
INPUTS: Mapping[str, object] = {
    "n": 2**40,
    "x": 0.5,
    "bad": float("nan"),
    "s": "a'b\n\\",
    "b": True,
    "none": None,
    "t": NOON,
    "span": timedelta(hours=1, seconds=5),
    "j": {"a": [1, None]},
}
CHECK = r"""SELECT %(n)s = 1099511627776 AND %(x)s = 0.5 AND %(bad)s = 'NaN'::FLOAT
AND %(s)s = 'a\'b\n\\' AND %(b)s AND %(none)s IS NULL
AND CAST(%(t)s AS TIMESTAMP_TZ) = '2024-01-02 03:04:05.000006+00:00'::TIMESTAMP_TZ
AND CAST(%(span)s AS TIME) = '01:00:05'::TIME AND PARSE_JSON(%(j)s):a[0] = 1 AS fine"""


class Live(Driver):
    """With the settings and secrets of the environment."""

    def __init__(self, **settings: Any) -> None:
        made = SnowflakeSettings(_env_prefix="FLYTEAGENTS_SNOWFLAKE_")
        super().__init__(**{**made.model_dump(), **settings})

    def call(self, operation: str, of: object, **options: Any) -> Any:
        known = {"connection": NO_CONNECTION, "seconds": 30.0}
        return super().call(operation, of, **{**known, **options})

    async def ended(self, job: SnowflakeJob, seconds: float = 120.0, **options: Any) -> Status:
        known = {"connection": NO_CONNECTION, "seconds": 30.0}
        return await self.env.until(job, within=seconds, **self._sent({**known, **options}))


@pytest.fixture
async def live() -> AsyncIterator[Live]:
    async with Live().opened() as driver:
        assert isinstance(driver, Live)
        yield driver


@pytest.mark.parametrize("bindings", ["client", "server"])
async def test_every_type_of_input_is_what_sql_takes_it_for(live: Live, bindings: str) -> None:
    custom = {"bindings": bindings}
    task = live.task(CHECK, INPUTS, custom=custom, execution=f"{RUN}-{bindings}")
    job = await live.create(task)
    assert (await live.ended(job)).phase is Phase.SUCCEEDED
    call = live.call("get", job)
    reply = await call.http.get(f"/api/v2/statements/{job.query_id}")
    assert reply.json()["data"] == [["true"]]


async def test_several_statements_share_a_session(live: Live) -> None:
    statement = (
        "BEGIN; CREATE TEMPORARY TABLE flyte_live (n INT); INSERT INTO flyte_live VALUES (1), (2);"
        "SELECT SUM(n) FROM flyte_live; ROLLBACK"
    )
    task = live.task(
        statement, config={}, outputs={"results": StructuredDataset}, execution=f"{RUN}-several"
    )
    status = await live.ended(await live.create(task), declared=task.declared)
    assert status.phase is Phase.SUCCEEDED, status
    assert status.statistics == {"statements": 5}


async def test_a_failure_of_several_names_its_statement(live: Live) -> None:
    task = live.task("SELECT 1;\n SELECT * FROM nowhere_at_all", config={}, execution=f"{RUN}-bad")
    status = await live.ended(await live.create(task))
    assert status.phase is Phase.FAILED
    assert "statement 2 of 2 failed; statement 1 took effect" in (status.message or ""), status


async def test_a_running_statement_is_stopped(live: Live) -> None:
    task = live.task("CALL SYSTEM$WAIT(300)", config={}, execution=f"{RUN}-stopped")
    job = await live.create(task)
    await live.cancel(job)
    status = await live.ended(job)
    assert (status.phase, status.code) == (Phase.ABORTED, "000604")


async def test_a_statement_is_found_by_its_tag(live: Live) -> None:
    async with Live(find_by_tag=True).opened() as looking:
        task = looking.task("SELECT 'found'", config={}, execution=f"{RUN}-tag")
        job = await looking.create(task)
        await looking.ended(job)
        assert await looking.find(task) == job


async def test_a_mistake_is_told_in_snowflakes_words(live: Live) -> None:
    task = live.task("SELECT * FROM nowhere_at_all", config={}, execution=f"{RUN}-mistake")
    status = await live.ended(await live.create(task))
    assert (status.phase, status.code) == (Phase.FAILED, "002003")
    assert "NOWHERE_AT_ALL" in (status.message or "").upper()
