"""Many polls of a slow Snowflake leave the event loop free for everybody else, and log in once."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.snowflake.driving import Driver
from tests.snowflake.fake_snowflake import FakeSnowflake
from tests.snowflake.logins import Logins

from flyteagents import Phase
from flyteagents._kernel.requests import Connection

POLLS = 500
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def apart() -> AsyncIterator[dict[str, str]]:
    """A Snowflake in a process of its own, so that its work is not measured."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.snowflake.fake_snowflake", "--delay", "0.2"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield json.loads(await process.stdout.readline())
    finally:
        process.terminate()
        await process.wait()


async def test_five_hundred_polls_do_not_hold_the_loop(apart: dict[str, str]) -> None:
    lags: list[float] = []

    async def tick() -> None:
        # The loop's own work between two ticks: what else the machine does is not ours.
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.005)
            lags.append(time.thread_time() - began)

    account = apart["FLYTEAGENTS_SNOWFLAKE_ACCOUNT"]
    user = apart["FLYTEAGENTS_SNOWFLAKE_USER"]
    key = {"snowflake_private_key": apart["FLYTEAGENTS_SECRET_SNOWFLAKE_PRIVATE_KEY"]}
    sent = Connection(key, {})
    async with Driver(apart["FLYTEAGENTS_SNOWFLAKE_URL"], account=account, user=user).opened() as (
        driver
    ):
        task = driver.task("SELECT 'forever'", config={})
        job = await driver.create(task, connection=sent)
        ticking = asyncio.create_task(tick())
        polls = []
        for _ in range(POLLS):  # as they come from callers, not all in one tick
            polls.append(asyncio.create_task(driver.get(job, seconds=30.0, connection=sent)))
            await asyncio.sleep(0.002)
        found = await asyncio.gather(*polls)
        ticking.cancel()
    assert {status.phase for status in found} == {Phase.RUNNING}
    assert len(lags) > 100
    assert sorted(lags)[int(len(lags) * 0.95)] < 0.05


async def test_a_poll_is_one_request_with_the_token_that_there_is(
    snowflake: FakeSnowflake,
) -> None:
    logins = snowflake.logins = Logins({"ACCT.ME": [0]})
    async with Driver(snowflake.url).opened() as driver:
        job = await driver.create(driver.task("SELECT SYSTEM$WAIT(5)"))
        for _ in range(20):
            await driver.get(job)
    assert len(snowflake.requests) == 21
    assert snowflake.connections == 1
    assert len(logins.seen) == 21
    tokens = {one.headers["authorization"] for one in snowflake.requests}
    assert len(tokens) == 1
