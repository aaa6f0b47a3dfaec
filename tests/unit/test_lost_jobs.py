"""Orders of events in which a job could be lost, or an answer be about another one."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.kernel_setup import RUNNING, Hasty, Numbered, Setup, read_back, until, within

from flyteagents import Forbidden, Unavailable
from flyteagents._kernel.create import Creating

JOB = Numbered(id="job-1")
THIRD = "s3://bucket/e/n/data/2"
"""The prefix of Flyte 2's second attempt."""


@pytest.fixture
def creating(setup: Setup) -> Creating:
    return Creating(setup.kernel, setup.flights)


async def test_the_vendors_late_no_is_not_told_of_the_job_that_a_repeated_create_has_made(
    setup: Setup, creating: Creating
) -> None:
    setup.agent.named = JOB
    answers = asyncio.Event()
    setup.agent.script["create"] = [answers, Forbidden("no"), JOB]
    key = setup.task().key
    assert (await read_back(creating.create(setup.request(), key, "", Hasty()))).unconfirmed
    answers.set()
    await until(lambda: not setup.kernel.detached)
    assert setup.kernel.soft.late_ends.get(key.hex) is not None

    again = await read_back(creating.create(setup.request(), key, "", within(60)))
    assert again.job == {"id": "job-1"}
    assert setup.kernel.soft.late_ends.get(key.hex) is None


@pytest.mark.usefixtures("asked_once")
async def test_overlapping_creates_of_which_one_was_answered_early_are_both_answered(
    setup: Setup, creating: Creating
) -> None:
    setup.agent.named = JOB
    answers = asyncio.Event()
    setup.agent.script["create"] = [answers, Unavailable("down")]
    request, key = setup.request(), setup.task().key
    early, late = [
        asyncio.create_task(read_back(creating.create(request, key, "", each)))
        for each in (Hasty(), within(60))
    ]
    assert (await early).unconfirmed
    answers.set()
    assert (await late).unconfirmed


@pytest.mark.usefixtures("asked_once")
async def test_an_earlier_job_that_the_last_attempt_cannot_settle_is_stopped(
    setup: Setup, creating: Creating
) -> None:
    setup.agent.script["get"] = [Unavailable("busy"), Unavailable("busy"), RUNNING]
    request = setup.request(THIRD, generation=2, retries=1, attempt=1)
    envelope = await read_back(creating.create(request, setup.task(THIRD).key, "", within(60)))
    assert envelope.parked is not None
    # The cancel looks first, and asks again while the vendor is busy.
    await until(lambda: "cancel" in setup.agent.asked)


@pytest.mark.usefixtures("asked_once")
async def test_earlier_attempts_that_the_last_one_does_not_reach_are_looked_at_too(
    setup: Setup, creating: Creating
) -> None:
    """The first one's vendor does not answer in time, and the second one's job runs."""
    setup.agent.script["find"] = [JOB]
    setup.agent.script["create"] = [Unavailable("busy")]
    request = setup.request("s3://bucket/e/n/data/3", generation=2, retries=2, attempt=2)
    envelope = await read_back(creating.create(request, setup.task(THIRD).key, "", within(60)))
    assert envelope.parked is not None
    await until(lambda: "cancel" in setup.agent.asked and len(looked_for(setup)) == 2)
    assert looked_for(setup) == {"s3://bucket/e/n/data/1", THIRD}


def looked_for(setup: Setup) -> set[str]:
    return {task.output_prefix for task in setup.agent.about["find"]}


@pytest.mark.usefixtures("asked_once")
async def test_an_earlier_job_that_a_next_attempt_can_settle_is_left_alone(
    setup: Setup, creating: Creating
) -> None:
    setup.agent.script["get"] = [Unavailable("busy")]
    request = setup.request(THIRD, generation=2, retries=2, attempt=1)
    await read_back(creating.create(request, setup.task(THIRD).key, "", within(60)))
    await until(lambda: not setup.kernel.detached)
    assert "cancel" not in setup.agent.asked


async def test_what_is_to_be_cancelled_is_not_asked_for_again(setup: Setup) -> None:
    request = setup.request()
    flight = setup.flights.start(setup.served, request.read(), request, within(60))
    assert flight.budget.left > 0
    setup.flights.is_unwanted(flight.key)
    assert flight.budget.left == 0


async def test_a_create_that_was_answered_early_and_is_not_sent_again_is_left_to_its_polls(
    setup: Setup, creating: Creating
) -> None:
    setup.agent.named = JOB
    setup.agent.script["create"] = [Unavailable("down")]
    before = setup.counted("abandoned")
    assert (
        await read_back(creating.create(setup.request(), setup.task().key, "", Hasty()))
    ).unconfirmed
    assert await setup.kernel.detached.drain(60) == 0
    assert setup.flights.under_way(setup.task().key.hex) is None
    assert setup.counted("abandoned") == before
