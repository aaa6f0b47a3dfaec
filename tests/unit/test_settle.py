"""Earlier attempts are settled, oldest first, before a new job is asked for."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from tests.unit.kernel_setup import RUNNING, SUCCEEDED, Numbered, Setup, within

from flyteagents import (
    Idempotency,
    JobConflict,
    JobNotFound,
    Phase,
    Status,
    Task,
    Throttled,
    Unavailable,
)
from flyteagents._kernel.cancel import _name
from flyteagents._kernel.flight import Flight, Made
from flyteagents._kernel.settle import history, settle
from flyteagents._telemetry.providers import Telemetry

SECOND, THIRD = "s3://bucket/e/n/data/1", "s3://bucket/e/n/data/2"
JOB = Numbered(id="job-1")


class Others:
    """The earlier attempts' own flights, as a test says."""

    def __init__(self) -> None:
        self.flying: dict[str, Flight] = {}
        self.named: dict[str, Made] = {}

    def under_way(self, key: str) -> Flight | None:
        return self.flying.get(key)

    def just_named(self, key: str, task: Task[Any]) -> Made | None:
        return self.named.get(key)


def flight_of(setup: Setup, prefix: str, seconds: float = 0.02, **of: Any) -> Flight:
    attempt = int(prefix[-1])
    task = setup.task(prefix, attempt=attempt, **of)
    return Flight(setup.served, task, setup.request(prefix), within(seconds))


async def test_a_first_attempt_has_nothing_to_settle(setup: Setup) -> None:
    flight = flight_of(setup, "s3://bucket/e/n/data/0")
    assert await settle(setup.kernel, flight, Others()) is None
    assert setup.agent.asked == []


async def test_to_look_up_is_to_create_under_the_earlier_key(setup: Setup) -> None:
    made = await settle(setup.kernel, flight_of(setup, SECOND), Others())
    assert made == Made(JOB, 0, adopted=True)
    earlier = setup.agent.about["create"][0]
    assert earlier.output_prefix == "s3://bucket/e/n/data/0"
    assert earlier.key == setup.task("s3://bucket/e/n/data/0").key


@pytest.mark.parametrize(
    "over",
    [
        Status(Phase.FAILED),
        Status(Phase.RETRYABLE_FAILED),
        Status(Phase.ABORTED),
        Status(Phase.RUNNING, cancelling=True),
    ],
)
async def test_what_is_history_is_not_taken_over_and_the_next_one_is(
    setup: Setup, over: Status
) -> None:
    setup.agent.script["get"] = [over, SUCCEEDED]
    made = await settle(setup.kernel, flight_of(setup, THIRD), Others())
    assert made == Made(JOB, 1, adopted=True)


async def test_other_work_under_an_earlier_key_is_not_ours(setup: Setup) -> None:
    setup.agent.script["create"] = [JobConflict("other work")]
    assert await settle(setup.kernel, flight_of(setup, SECOND), Others()) is None


async def test_a_job_that_is_being_stopped_here_is_not_taken_over(setup: Setup) -> None:
    setup.kernel.soft.stopping.add(_name(setup.served, JOB))
    assert await settle(setup.kernel, flight_of(setup, SECOND), Others()) is None


async def test_a_job_that_is_not_visible_yet_is_taken_over(setup: Setup) -> None:
    setup.agent.script["get"] = [JobNotFound("not yet")]
    assert await settle(setup.kernel, flight_of(setup, SECOND), Others()) is not None


@pytest.mark.parametrize("error", [Unavailable("not now"), ValueError("a bug")])
async def test_while_it_cannot_be_known_the_attempt_waits(setup: Setup, error: Exception) -> None:
    setup.agent.script["get"] = [error]
    with pytest.raises(Unavailable):
        await settle(setup.kernel, flight_of(setup, SECOND), Others())


async def test_a_job_just_named_is_taken_over_unseen(setup: Setup) -> None:
    others, flight = Others(), flight_of(setup, SECOND)
    others.named[setup.task("s3://bucket/e/n/data/0").key.hex] = Made(JOB, 0)
    made = await settle(setup.kernel, flight, others)
    assert made == Made(JOB, 0, adopted=True)
    assert setup.agent.asked == []


@pytest.mark.parametrize("idempotency", ["lookup"])
async def test_an_earlier_submit_on_its_way_is_waited_for(
    quiet_telemetry: Telemetry, idempotency: Idempotency
) -> None:
    setup, others = Setup(quiet_telemetry, idempotency), Others()
    first = flight_of(setup, "s3://bucket/e/n/data/0")
    first.work = asyncio.get_running_loop().create_future()  # type: ignore[assignment] # is awaited
    others.flying[first.key] = first
    with pytest.raises(Throttled):
        await settle(setup.kernel, flight_of(setup, SECOND), others)
    assert setup.agent.asked == []
    first.work.cancel()


async def test_look_ups_find_and_do_not_create(quiet_telemetry: Telemetry) -> None:
    setup = Setup(quiet_telemetry, "lookup")
    setup.agent.script["find"] = [None, JOB]
    made = await settle(setup.kernel, flight_of(setup, THIRD), Others())
    assert made == Made(JOB, 1, adopted=True)
    assert "create" not in setup.agent.asked


def test_a_job_that_outlives_the_tasks_timeout_is_history() -> None:
    began = datetime.now(timezone.utc) - timedelta(seconds=10)
    running = Status(Phase.RUNNING, started=began)
    assert history(running, timedelta(seconds=5))
    assert not history(running, timedelta(seconds=60))
    assert not history(running, None)
    assert not history(RUNNING, timedelta(seconds=5))
    assert not history(Status(Phase.SUCCEEDED, started=began), timedelta(seconds=5))
