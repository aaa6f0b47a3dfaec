"""Earlier attempts are settled, oldest first, before a new job is asked for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from tests.unit.kernel_setup import RUNNING, SUCCEEDED, Numbered, Scripted, Setup, made_for, within

from flyteagents import (
    Call,
    Idempotency,
    JobConflict,
    JobNotFound,
    Phase,
    Status,
    Task,
    Throttled,
    Unavailable,
)
from flyteagents._kernel import cancel
from flyteagents._kernel.cancel import _name
from flyteagents._kernel.flight import Flight, Made
from flyteagents._kernel.open_job import OpenJob
from flyteagents._kernel.requests import Connection
from flyteagents._kernel.seen import Seen
from flyteagents._kernel.settle import history, settle
from flyteagents._telemetry.providers import Telemetry

FIRST = "s3://bucket/e/n/data/0"
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

    def was_settled(self, key: str) -> None:
        pass


def flight_of(setup: Setup, prefix: str, seconds: float = 0.02, **of: Any) -> Flight:
    attempt = int(prefix[-1])
    task = setup.task(prefix, attempt=attempt, **of)
    return Flight(setup.served, task, setup.request(prefix), within(seconds))


async def settled(
    setup: Setup, prefix: str, others: Others | None = None, seconds: float = 0.02
) -> Made | None:
    flight = flight_of(setup, prefix, seconds)
    return await settle(setup.kernel, flight, others or Others(), setup.cancelling)


async def test_a_first_attempt_has_nothing_to_settle(setup: Setup) -> None:
    flight = flight_of(setup, "s3://bucket/e/n/data/0")
    assert await settle(setup.kernel, flight, Others(), setup.cancelling) is None
    assert setup.agent.asked == []


async def test_to_look_up_is_to_create_under_the_earlier_key(setup: Setup) -> None:
    made = await settled(setup, SECOND)
    assert made == made_for(setup, 0)
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
    made = await settled(setup, THIRD)
    assert made == made_for(setup, 1)


async def test_other_work_under_an_earlier_key_is_not_ours(setup: Setup) -> None:
    setup.agent.script["create"] = [JobConflict("other work")]
    assert await settled(setup, SECOND) is None


async def test_a_job_that_is_being_stopped_here_is_not_taken_over(setup: Setup) -> None:
    setup.kernel.soft.stopping[_name(setup.served, JOB)] += 1
    assert await settled(setup, SECOND) is None


async def test_a_job_that_is_not_visible_yet_is_taken_over(setup: Setup) -> None:
    setup.agent.script["get"] = [JobNotFound("not yet")]
    assert await settled(setup, SECOND) is not None


@pytest.mark.parametrize("error", [Unavailable("not now"), ValueError("a bug")])
async def test_while_it_cannot_be_known_the_attempt_waits(setup: Setup, error: Exception) -> None:
    setup.agent.script["get"] = [error]
    with pytest.raises(Unavailable):
        await settled(setup, SECOND)


async def test_a_job_just_named_is_taken_over_unseen(setup: Setup) -> None:
    others, flight = Others(), flight_of(setup, SECOND)
    others.named[setup.task("s3://bucket/e/n/data/0").key.hex] = made_for(setup, 0)
    made = await settle(setup.kernel, flight, others, setup.cancelling)
    assert made == made_for(setup, 0)
    assert setup.agent.asked == []


async def test_what_was_just_named_last_stands_for_the_attempts_before_it(setup: Setup) -> None:
    others, flight = Others(), flight_of(setup, THIRD)
    others.named[setup.task(SECOND).key.hex] = made_for(setup, 0)  # it had taken that one over
    made = await settle(setup.kernel, flight, others, setup.cancelling)
    assert made == made_for(setup, 0)
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
        await settled(setup, SECOND, others)
    assert setup.agent.asked == []
    first.work.cancel()


async def test_look_ups_find_and_do_not_create(quiet_telemetry: Telemetry) -> None:
    setup = Setup(quiet_telemetry, "lookup")
    setup.agent.script["find"] = [None, JOB]
    made = await settled(setup, THIRD)
    assert made == made_for(setup, 1)
    assert "create" not in setup.agent.asked


# What the agent itself does not take over.


class Choosy(Scripted):
    """Says which jobs may be taken over."""

    async def adopts(self, task: Task[Any], job: Numbered, call: Call) -> bool:
        assert call.settling
        assert task.output_prefix == call.output_prefix == FIRST
        return bool(await self._answer("adopts", job, call))


@pytest.fixture
def choosy(quiet_telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setattr(cancel, "FIRST_PAUSE", 0.001)
    setup = Setup(quiet_telemetry, cls=Choosy)
    setup.agent.script["adopts"] = [False]
    return setup


async def test_an_agent_may_say_that_a_job_can_be_taken_over(choosy: Setup) -> None:
    choosy.agent.script["adopts"] = [True]
    assert await settled(choosy, SECOND) == made_for(choosy, 0)
    assert "cancel" not in choosy.agent.asked


async def test_a_job_that_cannot_be_taken_over_is_seen_to_stop(choosy: Setup) -> None:
    choosy.agent.script["get"] = [RUNNING, RUNNING, RUNNING, Status(Phase.ABORTED)]
    assert await settled(choosy, SECOND, seconds=1) is None
    assert choosy.agent.asked == ["create", "get", "adopts", "get", "cancel", "get", "get"]


async def test_while_it_has_not_stopped_no_new_job_is_asked_for(choosy: Setup) -> None:
    for _ in range(3):  # also by the next attempts, which find the cancel under way
        with pytest.raises(Throttled, match="attempt 0 is still being stopped"):
            await settled(choosy, SECOND)
    assert choosy.agent.asked.count("cancel") == 1


async def test_a_cancel_with_other_credentials_is_another_one(choosy: Setup) -> None:
    def opened(**secrets: str) -> OpenJob:
        return replace(choosy.opened(), connection=Connection(secrets), seen=Seen())

    cancels = [
        choosy.cancelling.detach_once(each)
        for each in (opened(), opened(), opened(token="other"), opened(token="other"))
    ]
    assert cancels[0] is cancels[1] is not cancels[2]
    assert cancels[2] is cancels[3]
    choosy.agent.script["get"] = [Status(Phase.ABORTED)]
    # The other one's first.
    for each in reversed(cancels):
        await each
    assert not choosy.cancelling._found


async def test_a_job_that_is_already_being_stopped_is_waited_for(choosy: Setup) -> None:
    stopping = Status(Phase.RUNNING, cancelling=True)
    choosy.agent.script["get"] = [stopping, stopping, Status(Phase.ABORTED)]
    assert await settled(choosy, SECOND, seconds=1) is None
    assert "cancel" not in choosy.agent.asked
    assert choosy.agent.asked.count("get") == 3


async def test_a_job_that_has_succeeded_and_cannot_be_taken_over_is_left_alone(
    choosy: Setup,
) -> None:
    choosy.agent.script["get"] = [SUCCEEDED]
    assert await settled(choosy, SECOND) is None
    assert "cancel" not in choosy.agent.asked


async def test_a_job_just_named_is_asked_about_too(choosy: Setup) -> None:
    others = Others()
    first = made_for(choosy, 0)
    others.named[first.key] = first
    choosy.agent.script["get"] = [Status(Phase.ABORTED)]
    assert await settled(choosy, SECOND, others, seconds=1) is None
    assert choosy.agent.asked == ["adopts", "get"]


async def test_while_the_agent_cannot_say_the_attempt_waits(choosy: Setup) -> None:
    choosy.agent.script["adopts"] = [ValueError("a bug")]
    with pytest.raises(Unavailable, match="attempt 0 is not settled"):
        await settled(choosy, SECOND)


def test_a_job_that_outlives_the_tasks_timeout_is_history() -> None:
    began = datetime.now(timezone.utc) - timedelta(seconds=10)
    running = Status(Phase.RUNNING, started=began)
    assert history(running, timedelta(seconds=5))
    assert not history(running, timedelta(seconds=60))
    assert not history(running, None)
    assert not history(RUNNING, timedelta(seconds=5))
    assert not history(Status(Phase.SUCCEEDED, started=began), timedelta(seconds=5))
    # Of a job without a start, JSON of Go and .NET says that it began in the year 1.
    never = Status(Phase.RUNNING, started=datetime(1, 1, 1, tzinfo=timezone.utc))
    assert not history(never, timedelta(seconds=5))
