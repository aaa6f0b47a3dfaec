"""The first poll of a job waits a moment for its end, and only that one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.duckdb.driving import FOREVER, Driver, ended, kill_jobs, running

from flyteagents import Phase
from flyteagents_duckdb.first_look import HELD


async def test_a_short_job_has_ended_when_it_is_looked_at_first(data_dir: Path) -> None:
    async with Driver(data_dir, first_look=30) as driver:
        job = await driver.create(driver.task("SELECT 1"))
        assert (await driver.get(job)).phase is Phase.SUCCEEDED
    async with Driver(data_dir, first_look=0) as driver:
        job = await driver.create(driver.task("SELECT 1"))
        assert not ended(await driver.get(job))
        await driver.until(job, ended)


async def test_only_some_polls_are_held_at_once(data_dir: Path) -> None:
    async with Driver(data_dir, max_jobs=HELD + 2) as first:
        jobs = [await first.create(first.task(FOREVER)) for _ in range(HELD + 2)]
        for job in jobs:
            await first.until(job, running)
    async with Driver(data_dir, max_jobs=HELD + 2, first_look=3600) as driver:
        looks = [asyncio.create_task(driver.get(job)) for job in jobs]
        done = 0
        for _ in range(250):
            done = sum(look.done() for look in looks)
            if done == 2:
                break
            await asyncio.sleep(0.02)
        assert done == 2
        assert not any(ended(look.result()) for look in looks if look.done())
        kill_jobs(data_dir)
        for job in jobs:
            driver.directory(job).end("FAILED", "for the test")
        late = await asyncio.gather(*looks)
        assert sum(map(ended, late)) == HELD


async def test_a_job_with_others_before_it_is_looked_at_at_once_and_a_held_one_hears_its_cancel(
    data_dir: Path,
) -> None:
    async with Driver(data_dir, max_jobs=1) as first:
        job = await first.create(first.task(FOREVER))
        await first.until(job, running)
        waits = [await first.create(first.task("SELECT 1")) for _ in range(2)]
    # All of them would be held for an hour, if they were held.
    async with Driver(data_dir, max_jobs=1, first_look=3600) as driver:
        assert (await asyncio.wait_for(driver.get(waits[1]), 20)).info["ahead"] == 1
        held = asyncio.create_task(driver.get(job))
        for _ in range(500):
            if driver.agent.first_look.held:
                break
            await asyncio.sleep(0.01)
        await driver.cancel(job)
        assert ended(await asyncio.wait_for(held, 20))


@pytest.mark.parametrize("operation", ["cancel", "create"])
async def test_who_cancels_or_settles_is_not_kept_waiting(data_dir: Path, operation: str) -> None:
    async with Driver(data_dir, first_look=3600) as driver:
        job = await driver.create(driver.task(FOREVER))
        look = driver.agent.get(job, driver.call(operation))
        assert not ended(await asyncio.wait_for(look, 20))
