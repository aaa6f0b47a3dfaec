"""Real BigQuery, with your own credentials: what neither the fake nor the emulator can say.

    FLYTEAGENTS_LIVE=1 GOOGLE_CLOUD_PROJECT=my-project pytest tests/bigquery/test_live.py

It reads no table, so it costs nothing where queries are billed by the bytes that they read. It
makes no dataset, and removes its jobs from the project's history; their temporary results are
gone after a day. It needs the roles BigQuery Job User and, for the removal, BigQuery Admin.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from tests.bigquery.driving import Driver

from flyteagents import (
    Binary,
    Forbidden,
    InvalidTask,
    JobConflict,
    JobNotFound,
    Kind,
    Phase,
    Status,
    StructuredDataset,
    Type,
)
from flyteagents_bigquery.job import BigQueryJob
from flyteagents_bigquery.settings import GOOGLE

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        os.environ.get("FLYTEAGENTS_LIVE") != "1", reason="real BigQuery: set FLYTEAGENTS_LIVE=1"
    ),
]
NOON = datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
RUN = secrets.token_hex(6)
LOCATION = os.environ.get("FLYTEAGENTS_BIGQUERY_LOCATION", "US")


class Live(Driver):
    """Remembers its jobs, and removes them from the project's history."""

    def __init__(self) -> None:
        project = os.environ["GOOGLE_CLOUD_PROJECT"]
        super().__init__(GOOGLE, anonymous=False, project=project)
        self.custom = {"ProjectID": project, "Location": LOCATION}
        self.made: list[BigQueryJob] = []

    async def create(self, task: Any, **options: Any) -> BigQueryJob:
        job = await super().create(task, seconds=20.0)
        self.made.append(job)
        return job

    async def ended(self, job: BigQueryJob) -> Status:
        end = time.monotonic() + 120
        while True:
            status = await self.get(job, seconds=20.0)
            if status.phase is not None and status.phase.terminal:
                return status
            assert time.monotonic() < end, status
            await asyncio.sleep(0.5)

    async def remove(self) -> None:
        for job in {job.job_id: job for job in self.made if job.dry_bytes is None}.values():
            with contextlib.suppress(JobNotFound, Forbidden):
                http = self.env.call("cancel", job, seconds=20.0).http
                await http.delete(f"{job.path}/delete", params={"location": job.location})


@pytest.fixture
async def live() -> AsyncIterator[Live]:
    driver = Live()
    async with driver.opened():
        yield driver
        await driver.remove()


async def test_every_type_of_input_is_what_sql_takes_it_for(live: Live) -> None:
    inputs: dict[str, Any] = {
        "n": 2**53 + 1,
        "x": math.nan,
        "s": "it's",
        "b": True,
        "t": NOON,
        "span": timedelta(hours=49, seconds=1.5),
        "back": timedelta(seconds=-90),
        "several": [1, 2],
        "empty": [],
        "maybe": None,
        "raw": Binary(b"\x00\x01", "raw"),
        "j": {"a": [1, None]},
    }
    interface: dict[str, Any] = {
        "several": list[int],
        "empty": list[str],
        "maybe": int | None,
        "j": Type(Kind.STRUCT),
    }
    checks = [
        "@n = 9007199254740993",
        "IS_NAN(@x)",
        '@s = "it\'s"',
        "@b",
        "@t = DATETIME '2024-01-02 03:04:05.000006'",
        "DATETIME '2024-01-01' + @span = DATETIME '2024-01-03 01:00:01.5'",
        "DATETIME '2024-01-01 00:01:30' + @back = DATETIME '2024-01-01'",
        "ARRAY_LENGTH(@several) = 2",
        "@several[OFFSET(1)] = 2",
        "ARRAY_LENGTH(@empty) = 0",
        "@maybe IS NULL",
        "@raw = b'\\x00\\x01'",
        "JSON_VALUE(@j, '$.a[0]') = '1'",
    ]
    asserts = " ".join(f'ASSERT {check} AS """{check}""";' for check in checks)
    for statement in (asserts, "SELECT " + " AND ".join(checks) + " AS fine"):
        task = live.task(
            statement, live.custom, inputs, interface, execution=f"{RUN}-{len(statement)}"
        )
        status = await live.ended(await live.create(task))
        assert status.phase is Phase.SUCCEEDED, status


async def test_a_repeated_create_finds_the_job_also_where_only_bigquery_knows_its_place(
    live: Live,
) -> None:
    custom = {**live.custom, "Location": "europe-west1"}
    first = await live.create(live.task("SELECT 1", custom, execution=f"{RUN}-twice"))
    assert await live.create(live.task("SELECT 1", custom, execution=f"{RUN}-twice")) == first
    nowhere = {**live.custom, "Location": None}
    with pytest.raises((JobConflict, InvalidTask)):
        await live.create(live.task("SELECT 2", custom, execution=f"{RUN}-twice"))
    found = await live.create(live.task("SELECT 1", nowhere, execution=f"{RUN}-somewhere"))
    assert found.location is not None
    assert (await live.ended(found)).phase is Phase.SUCCEEDED


async def test_a_scripts_result_numbers_and_log_are_told(live: Live) -> None:
    script = "DECLARE n INT64 DEFAULT 3; SELECT 'first' AS x; SELECT n + 1 AS n;"
    task = live.task(
        script, live.custom, outputs={"results": StructuredDataset}, execution=f"{RUN}-script"
    )
    job = await live.create(task)
    status = await live.ended(job)
    assert status.phase is Phase.SUCCEEDED, status
    assert isinstance((status.outputs or {})["results"], StructuredDataset)
    assert status.statistics["child_jobs"]
    page = await live.env.logs(job, "", 100)
    assert any("SELECT" in line.message for line in page.lines)


async def test_a_running_query_is_stopped(live: Live) -> None:
    numbers = "UNNEST(GENERATE_ARRAY(1, 1000000))"
    endless = f"SELECT COUNT(*) FROM {numbers} a, {numbers} b WHERE MOD(a * b, 7) = 3"
    custom = {**live.custom, "useQueryCache": False}
    job = await live.create(live.task(endless, custom, execution=f"{RUN}-endless"))
    await live.cancel(job)
    status = await live.ended(job)
    assert (status.phase, status.code) == (Phase.ABORTED, "stopped")
    await live.cancel(job)


async def test_a_mistake_is_told_in_bigquerys_words(live: Live) -> None:
    task = live.task("SELECT nothing", live.custom, execution=f"{RUN}-mistake")
    try:
        status = await live.ended(await live.create(task))
        text = f"[{status.code}] {status.message}"
    except InvalidTask as error:
        text = str(error)
    assert "[BIGQUERY_invalidQuery] Unrecognized name: nothing" in text


async def test_a_dry_run_tells_its_bytes(live: Live) -> None:
    task = live.task("SELECT 1", {**live.custom, "dryRun": True}, execution=f"{RUN}-dry")
    status = await live.ended(await live.create(task))
    assert status.info == {"state": "DONE", "bytes_processed": 0}
