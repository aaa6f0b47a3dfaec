"""Submits that end without an answer: their jobs are counted, looked for, and stopped."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.kernel_setup import PREFIX, Numbered, Setup, read_back, until, within
from tests.unit.test_flight import begin, ends, given_up

from flyteagents import Unauthenticated, Unavailable
from flyteagents._kernel import detached, lost
from flyteagents._kernel.create import Creating
from flyteagents._kernel.settings import KernelSettings

JOB = Numbered(id="job-1")


def abandoned(setup: Setup) -> float:
    return setup.counted("abandoned").get(("scripted",), 0)


async def unanswered(setup: Setup, **of: Any) -> None:
    """A flight whose submit ends without an answer, when its caller has gone."""
    held = asyncio.Event()
    setup.agent.script["create"] = [held, Unavailable("no answer within 60 s")]
    flight = begin(setup, **of)
    await given_up(setup, flight)
    held.set()
    await ends(flight)


async def nothing_goes_on(setup: Setup) -> None:
    await until(lambda: not setup.kernel.detached)


async def is_cancelled(setup: Setup) -> None:
    await until(lambda: "cancel" in setup.agent.asked)


async def test_a_submit_without_an_answer_and_a_caller_is_counted(setup: Setup) -> None:
    before = abandoned(setup)
    await unanswered(setup)
    await nothing_goes_on(setup)
    assert abandoned(setup) - before == 1
    assert setup.agent.asked == ["create"], "a next attempt may find the job"


@pytest.mark.usefixtures("asked_once")
async def test_a_submit_whose_failure_was_heard_is_not_counted(setup: Setup) -> None:
    before = abandoned(setup)
    setup.agent.script["create"] = [Unavailable("down")]
    flight = begin(setup)
    await setup.flights.wait(flight, within(60))
    await ends(flight)
    assert abandoned(setup) == before


async def test_a_job_that_may_be_there_is_looked_for_by_our_name_and_stopped(setup: Setup) -> None:
    setup.agent.named = JOB
    await unanswered(setup, generation=2, retries=0)
    await is_cancelled(setup)
    assert setup.agent.asked[:3] == ["create", "get", "cancel"]


async def test_a_job_that_may_be_there_is_looked_for_by_its_key_and_stopped(setup: Setup) -> None:
    setup.agent.script["find"] = [JOB]
    await unanswered(setup, generation=2, retries=0)
    await is_cancelled(setup)
    assert setup.agent.asked[:4] == ["create", "find", "get", "cancel"]


async def test_a_job_that_an_index_shows_late_is_stopped_too(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detached, "FIRST_PAUSE", 0.0)
    setup.agent.script["find"] = [None, None, Unavailable("busy"), None, JOB]
    await unanswered(setup, generation=2, retries=0)
    await is_cancelled(setup)
    assert list(dict.fromkeys(setup.agent.asked)) == ["create", "find", "get", "cancel"]
    assert setup.agent.asked.count("find") == 5


async def test_a_drain_does_not_wait_for_an_index(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detached, "FIRST_PAUSE", 0.0)
    setup.kernel.detached.draining = True
    await unanswered(setup, generation=2, retries=0)
    await nothing_goes_on(setup)
    assert setup.agent.asked == ["create", "find"]


@pytest.mark.parametrize(
    ("error", "told"),
    [(Unauthenticated("no token"), "no token"), (RuntimeError(), "RuntimeError in find; error id")],
)
async def test_a_job_that_cannot_be_looked_for_is_told(
    setup: Setup, caplog: pytest.LogCaptureFixture, error: Exception, told: str
) -> None:
    before = abandoned(setup)
    setup.agent.script["find"] = [error]
    await unanswered(setup, generation=2, retries=0)
    await nothing_goes_on(setup)
    warned = [each for each in caplog.messages if "cannot find a job that may run" in each]
    assert len(warned) == 1
    assert told in warned[0]
    assert abandoned(setup) - before == 1, "once, with the submit that was lost"


async def test_an_earlier_attempts_job_that_cannot_be_looked_for_is_counted(setup: Setup) -> None:
    before = abandoned(setup)
    setup.agent.script["find"] = [Unauthenticated("no token")]
    flight = begin(setup, generation=2, retries=0)
    await ends(flight)
    await lost.stop_lost(setup.kernel, setup.cancelling, flight, setup.task(f"{PREFIX[:-1]}1"))
    assert abandoned(setup) - before == 1


async def refused_in_time(setup: Setup, **of: Any) -> None:
    """A create whose submit has lost its reply, and whose caller hears of that."""
    setup.agent.script["create"] = [Unavailable("the reply was lost")]
    setup.agent.script["find"] = [JOB]
    creating = Creating(setup.kernel, setup.flights)
    key = setup.task().key
    envelope = await read_back(creating.create(setup.request(**of), key, "", within(60)))
    assert envelope.parked is not None


@pytest.mark.usefixtures("asked_once")
async def test_a_lost_reply_that_a_caller_heard_of_leaves_no_job_where_no_attempt_follows(
    setup: Setup,
) -> None:
    await refused_in_time(setup, generation=2, retries=0)
    await is_cancelled(setup)
    assert setup.agent.asked == ["create", "find", "get", "cancel"]


@pytest.mark.usefixtures("asked_once")
async def test_a_lost_reply_that_a_caller_heard_of_is_the_next_attempts(setup: Setup) -> None:
    await refused_in_time(setup, generation=2, retries=1)
    await nothing_goes_on(setup)
    assert setup.agent.asked == ["create"]


@pytest.mark.usefixtures("asked_once")
async def test_a_lost_reply_that_a_caller_heard_of_leaves_no_job_where_none_is_taken_over(
    setup: Setup,
) -> None:
    setup.kernel.settings = KernelSettings(adopt=False)
    await refused_in_time(setup, generation=1, retries=1)
    await is_cancelled(setup)
    assert setup.agent.asked == ["create", "find", "get", "cancel"]
