"""A vendor that names its jobs itself, and whose every answer outlasts the caller's deadline."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from flyteagents import Phase
from flyteagents.testing import FakePropeller, JobService, RealServer, SlowReply, task_template

AGENTS = Path(__file__).parents[1] / "agents"


@pytest.mark.parametrize("generation", [1, 2])
async def test_an_attempt_takes_over_what_the_vendor_named_too_late_for_the_one_before(
    generation: int,
) -> None:
    async with JobService() as vendor:
        vendor.script("*", "*", SlowReply(1.5), repeat=True)
        with RealServer(
            ["jobs"], {"FLYTEAGENTS_JOBS_URL": vendor.url}, python_path=[AGENTS]
        ) as server:
            async with FakePropeller(
                server.endpoint, generation=2 if generation == 2 else 1, deadline=1.0
            ) as propeller:
                task = task_template("job_keyed", custom={"script": "sleep 4"})
                outcome = await propeller.run(task, attempts=6, within=60)
        assert outcome.phase is Phase.SUCCEEDED
        assert len(vendor.jobs) == 1
        assert not vendor.live()
        assert not any(job.cancels for job in vendor.jobs.values())


async def test_what_was_taken_over_unseen_and_turns_out_dead_is_not_taken_over_again() -> None:
    async with JobService() as vendor:
        slow = vendor.script("*", "*", SlowReply(1.5), repeat=True)
        with RealServer(
            ["jobs"], {"FLYTEAGENTS_JOBS_URL": vendor.url}, python_path=[AGENTS]
        ) as server:
            async with FakePropeller(server.endpoint, deadline=1.0) as propeller:
                task = task_template("job_keyed", custom={"script": "sleep 4"})
                running = asyncio.ensure_future(propeller.run(task, attempts=9, within=60))
                await vendor.until("POST", "/jobs", count=1)
                while not vendor.jobs:  # noqa: ASYNC110 # no event tells of it
                    await asyncio.sleep(0.01)
                next(iter(vendor.jobs.values())).end("CANCELED")
                await asyncio.sleep(2.0)  # its name comes too late, and is remembered
                slow.stop()
                outcome = await running
        assert outcome.phase is Phase.SUCCEEDED
        assert [job.state for job in vendor.jobs.values()] == ["CANCELED", "DONE"]
