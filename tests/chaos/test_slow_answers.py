"""A vendor that names its jobs itself, and whose every answer outlasts the caller's deadline."""

from __future__ import annotations

import asyncio

import pytest
from tests.chaos.attempts import GENERATIONS
from tests.chaos.conftest import MakeServer

from flyteagents import Phase
from flyteagents.testing import FakePropeller, Generation, JobService, SlowReply, task_template

TASK = task_template("job_keyed", custom={"script": "sleep 4"})


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_an_attempt_takes_over_what_the_vendor_named_too_late_for_the_one_before(
    make_server: MakeServer, vendor: JobService, generation: Generation
) -> None:
    vendor.script("*", "*", SlowReply(1.5), repeat=True)
    server = await make_server()
    async with FakePropeller(server.target, generation=generation, deadline=1.0) as propeller:
        outcome = await propeller.run(TASK, attempts=30, within=120)
    assert outcome.phase is Phase.SUCCEEDED
    assert len(vendor.jobs) == 1
    assert not vendor.live()
    assert not any(job.cancels for job in vendor.jobs.values())


async def test_what_was_taken_over_unseen_and_turns_out_dead_is_not_taken_over_again(
    make_server: MakeServer, vendor: JobService
) -> None:
    slow = vendor.script("*", "*", SlowReply(1.5), repeat=True)
    server = await make_server()
    async with FakePropeller(server.target, deadline=1.0) as propeller:
        running = asyncio.ensure_future(propeller.run(TASK, attempts=30, within=120))
        await vendor.until("POST", "/jobs", count=1)
        while not vendor.jobs:  # noqa: ASYNC110 # no event tells of it
            await asyncio.sleep(0.01)
        next(iter(vendor.jobs.values())).end("CANCELED")
        await asyncio.sleep(2.0)  # its name comes too late, and is remembered
        slow.stop()
        outcome = await running
    assert outcome.phase is Phase.SUCCEEDED
    assert [job.state for job in vendor.jobs.values()] == ["CANCELED", "DONE"]
