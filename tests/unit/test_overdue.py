"""An agent that catches the cancel which ends its call keeps no place, and no job of it is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal, cast

import pytest
from tests.unit.kernel_setup import (
    PREFIX,
    RUNNING,
    SUCCEEDED,
    Hasty,
    Numbered,
    Setup,
    read_back,
    until,
    within,
)
from tests.unit.test_flight import begin, ends, given_up
from tests.unit.test_lost import abandoned

from flyteagents import Idempotency, JobNotFound, Phase, Status, Unavailable
from flyteagents._kernel import admission, cancel, detached, flight, poll
from flyteagents._kernel.call import ask
from flyteagents._kernel.create import Creating
from flyteagents._kernel.deadline import Deadline
from flyteagents._kernel.envelope import Envelope
from flyteagents._kernel.poll import Polling
from flyteagents._telemetry.providers import Telemetry
from flyteagents._vendor.budget import Budget

JOB = Numbered(id="job-1")
OTHER = f"{PREFIX[:-3]}/other/0"


class Deaf(asyncio.Event):
    """One whose waiting goes on when it is cancelled."""

    async def wait(self) -> Literal[True]:
        while not self.is_set():
            with suppress(asyncio.CancelledError):
                await super().wait()
        return True


@pytest.fixture
async def deaf() -> AsyncIterator[Deaf]:
    event = Deaf()
    yield event
    event.set()  # else a test that fails would never end


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are cancelled at once; the agent does not care."""
    monkeypatch.setitem(cast(dict[str, Any], ask.__kwdefaults__), "limit", 0.001)


@pytest.fixture
def overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Creates are overdue though their callers' time is not over."""
    monkeypatch.setattr(flight, "OVERDUE", -1000.0)


async def created(setup: Setup, prefix: str = PREFIX, deadline: Deadline | None = None) -> Envelope:
    creating, key = Creating(setup.kernel, setup.flights), setup.task(prefix).key
    deadline = deadline or within(60)
    return await read_back(creating.create(setup.request(prefix), key, "", deadline))


async def test_a_poll_that_never_ends_counts_as_failed_and_another_one_is_begun(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll, "QUICK", 0.001)
    opened, polling = setup.opened(), Polling(setup.kernel, setup.cancelling, setup.flights.resume)
    never = asyncio.Event()
    setup.agent.script["get"] = [RUNNING, never, RUNNING]
    assert (await polling.poll(opened, within(1))).phase is Phase.RUNNING
    assert (await polling.poll(opened, within(1))).message == ""  # its vendor may be slow
    monkeypatch.setattr(poll, "OVERDUE", 0.0)
    assert "get goes on after its time" in (await polling.poll(opened, within(1))).message
    assert opened.seen.failures.count == 1
    monkeypatch.undo()
    assert (await polling.poll(opened, within(1))).message == ""
    assert setup.agent.asked == ["get", "get", "get"]
    assert setup.served.polls.held == 0
    never.set()
    await until(lambda: not setup.served.left_behind)
    assert setup.served.polls.held == 0


async def test_polls_that_never_end_take_no_places_until_there_are_too_many_of_them(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(poll, "QUICK", 0.001)
    monkeypatch.setattr(admission, "LEFT_BEHIND", 2)
    opened, polling = setup.opened(), Polling(setup.kernel, setup.cancelling, setup.flights.resume)
    never = asyncio.Event()
    setup.agent.script["get"] = [RUNNING, never, never, never, RUNNING]
    await polling.poll(opened, within(1))
    for _ in range(3):
        await polling.poll(opened, within(1))
        with monkeypatch.context() as later:
            later.setattr(poll, "OVERDUE", 0.0)
            assert "after its time" in (await polling.poll(opened, within(1))).message
    assert setup.served.polls.held == 1
    told = [line.message for line in caplog.records if line.levelname == "ERROR"]
    assert len(told) == 2
    assert all("scripted: get goes on after its time" in text for text in told)
    never.set()
    await until(lambda: not setup.served.left_behind)
    assert setup.served.polls.held == 0
    assert opened.seen.poll is None


async def test_a_late_end_of_a_poll_that_was_given_up_does_not_end_the_next_one(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll, "QUICK", 0.001)
    opened, polling = setup.opened(), Polling(setup.kernel, setup.cancelling, setup.flights.resume)
    first, second = asyncio.Event(), asyncio.Event()
    setup.agent.script["get"] = [RUNNING, first, second, RUNNING]
    await polling.poll(opened, within(1))
    await polling.poll(opened, within(1))
    with monkeypatch.context() as later:
        later.setattr(poll, "OVERDUE", 0.0)
        await polling.poll(opened, within(1))
    await polling.poll(opened, within(1))
    under_way = opened.seen.poll
    first.set()
    await until(lambda: not setup.served.left_behind)
    assert opened.seen.poll is under_way is not None
    second.set()
    await until(lambda: setup.served.polls.held == 0)


async def test_a_late_error_of_a_poll_that_was_given_up_does_not_end_the_job(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll, "QUICK", 0.001)
    opened = setup.opened(age=200.0)
    polling = Polling(setup.kernel, setup.cancelling, setup.flights.resume)
    ends_late = asyncio.Event()
    setup.agent.script["get"] = [RUNNING, ends_late, RUNNING]
    await polling.poll(opened, within(1))
    await polling.poll(opened, within(1))
    with monkeypatch.context() as later:
        later.setattr(poll, "OVERDUE", 0.0)
        await polling.poll(opened, within(1))
    assert (await polling.poll(opened, within(1))).phase is Phase.RUNNING

    setup.agent.script["get"].insert(0, JobNotFound("no such job"))
    ends_late.set()
    await until(lambda: not setup.served.left_behind)
    setup.agent.script["get"] = [RUNNING]
    assert (await polling.poll(opened, within(1))).phase is Phase.RUNNING


async def test_an_overdue_poll_of_a_job_that_nobody_asks_about_gives_its_place_back(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll, "QUICK", 0.001)
    monkeypatch.setattr(admission, "LEFT_BEHIND", 1)
    setup.served.polls.limit = 1
    polling, never = Polling(setup.kernel, setup.cancelling, setup.flights.resume), asyncio.Event()
    first, other = setup.opened(), setup.opened()
    setup.agent.script["get"] = [RUNNING, never, SUCCEEDED, RUNNING]
    for _ in range(2):
        await polling.poll(first, within(1))
    assert (await polling.poll(other, within(1))).phase is Phase.INITIALIZING
    assert len(setup.agent.asked) == 2

    with monkeypatch.context() as later:
        later.setattr(poll, "OVERDUE", 0.0)
        assert (await polling.poll(other, within(1))).phase is Phase.SUCCEEDED
        assert setup.served.polls.held == 0
        # Somebody asks all the same: then it is a poll that has failed, as any overdue one.
        assert "after its time" in (await polling.poll(first, within(1))).message
    assert (first.seen.failures.count, first.seen.poll) == (1, None)
    assert len(setup.served.left_behind) == 1
    never.set()
    await until(lambda: not setup.served.left_behind)
    assert setup.served.polls.held == 0


async def test_what_a_call_returns_after_its_limit_is_taken(setup: Setup, deaf: Deaf) -> None:
    setup.agent.script["get"] = [deaf, RUNNING]
    asking = asyncio.ensure_future(ask(setup.opened().call("get", Budget(0)), limit=0.001))
    await asyncio.sleep(0.01)
    deaf.set()
    assert await asking is RUNNING


@pytest.mark.usefixtures("short")
async def test_a_create_that_never_ends_holds_its_place_until_it_is_overdue(
    setup: Setup, deaf: Deaf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    setup.served.creates.limit = 1
    setup.agent.script["create"] = [deaf, Numbered(id="job-2"), JOB]
    first = begin(setup)
    await given_up(setup, first)
    monkeypatch.setattr(flight, "OVERDUE", 0.0)
    # Until its callers' time is over it may ask again; and one may have been asked late.
    for until_, asked in ((60.0, 0.0), (0.0, 60.0)):
        first.budget.until, first._asked = (time.monotonic() + each for each in (until_, asked))
        parked = (await created(setup, OTHER, within(0.02))).parked
        assert parked is not None
        assert "1 creates are under way" in parked.message

    first.budget.until = first._asked = 0.0
    assert (await created(setup, OTHER)).job == {"id": "job-2"}
    assert [len(setup.served.left_behind), setup.served.creates.held] == [1, 0]
    assert "create goes on after its time" in caplog.text

    deaf.set()
    await ends(first)
    assert [len(setup.served.left_behind), setup.served.creates.held] == [0, 0]


@pytest.mark.usefixtures("short", "overdue")
@pytest.mark.parametrize("idempotency", ["vendor", "lookup"])
async def test_the_job_of_a_create_that_was_left_behind_is_the_one_of_its_attempts(
    quiet_telemetry: Telemetry, deaf: Deaf, idempotency: Idempotency
) -> None:
    setup = Setup(quiet_telemetry, idempotency)
    setup.served.creates.limit = 1
    before = abandoned(setup)
    setup.agent.script["create"] = [deaf, Numbered(id="job-2"), JOB]
    assert (await created(setup, deadline=Hasty())).parked
    await created(setup, OTHER)
    assert setup.served.left_behind

    again = asyncio.create_task(created(setup))  # Flyte repeats it
    await asyncio.sleep(0)
    deaf.set()
    assert (await again).job == {"id": "job-1"}
    assert setup.agent.asked.count("create") == 2
    assert abandoned(setup) == before


@pytest.mark.usefixtures("short", "overdue")
@pytest.mark.parametrize("last", [True, False])
async def test_a_job_that_is_named_when_all_have_gone_is_found_or_stopped(
    setup: Setup, deaf: Deaf, last: bool
) -> None:
    setup.served.creates.limit = 1
    before = abandoned(setup)
    setup.agent.script["create"] = [deaf, Numbered(id="job-2"), JOB]
    first = begin(setup, generation=2, retries=0 if last else 3)
    await given_up(setup, first)
    await created(setup, OTHER)
    deaf.set()
    await ends(first)
    assert abandoned(setup) == before + 1
    if last:
        await until(lambda: JOB in setup.agent.about["cancel"])
    else:
        made = setup.flights.just_named(first.key, first.task)
        assert made is not None
        assert made.job == JOB


@pytest.mark.usefixtures("short", "overdue")
async def test_creates_that_are_left_behind_keep_their_places_when_they_are_too_many(
    setup: Setup, deaf: Deaf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "LEFT_BEHIND", 1)
    setup.served.creates.limit = 1
    setup.agent.script["create"] = [deaf, deaf, JOB]
    both = [begin(setup), begin(setup, prefix=OTHER)]
    await until(lambda: len(setup.agent.asked) == 2)
    third = await created(setup, f"{OTHER[:-2]}-3/0", within(0.02))
    assert third.parked is not None
    assert [len(setup.served.left_behind), setup.served.creates.held] == [1, 1]
    deaf.set()
    for each in both:
        await ends(each)
    assert setup.served.creates.held == 0


@pytest.mark.usefixtures("overdue")
async def test_a_submit_that_goes_on_without_a_caller_gives_its_place_back_too(
    setup: Setup, deaf: Deaf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detached, "FIRST_PAUSE", 0.001)
    setup.served.creates.limit = 1
    away = asyncio.Event()
    setup.agent.script["create"] = [away, Unavailable("away"), deaf, Numbered(id="job-2"), JOB]
    first = begin(setup)
    await given_up(setup, first)
    setup.flights.was_told_unconfirmed(first, "why")
    away.set()
    await until(lambda: len(setup.agent.asked) == 2)
    assert (await created(setup, OTHER)).job == {"id": "job-2"}
    deaf.set()
    await ends(first)
    assert setup.served.creates.held == 0
    assert setup.agent.asked == ["create"] * 3


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("ended_by", ["its cancel", "a poll"])
@pytest.mark.parametrize("young", [True, False])
async def test_a_job_that_comes_when_nobody_looks_for_it_any_more_is_stopped(
    setup: Setup, deaf: Deaf, monkeypatch: pytest.MonkeyPatch, ended_by: str, young: bool
) -> None:
    setup.agent.script["create"] = [deaf, JOB]
    first = begin(setup, generation=2, retries=0)
    await given_up(setup, first)
    setup.flights.was_told_unconfirmed(first, "why")
    if not young:
        monkeypatch.setattr(flight, "YOUNG", 0.0)
    if ended_by == "a poll":
        setup.agent.script["get"] = [JobNotFound("no such job"), RUNNING, SUCCEEDED]
        opened = setup.opened(age=0.0 if young else 200.0, unconfirmed=True)
        opened.envelope = replace(opened.envelope, key=first.key)
        polling = Polling(setup.kernel, setup.cancelling, setup.flights.resume)
        answer = await polling.poll(opened, within(60))
        assert (answer.phase is Phase.RETRYABLE_FAILED) == (not young)
    else:
        setup.flights.was_deleted(first.key)
    deaf.set()
    await ends(first)
    # Else a poll or the cancel finds it.
    assert ("cancel" in setup.agent.asked) == (not young)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("taken_over", [False, True])
async def test_a_late_job_of_a_deleted_attempt_is_stopped_though_others_may_follow(
    setup: Setup, deaf: Deaf, monkeypatch: pytest.MonkeyPatch, generation: int, taken_over: bool
) -> None:
    setup.agent.script["create"] = [deaf, JOB]
    first = begin(setup, generation=generation, retries=3)
    await given_up(setup, first)
    setup.flights.was_told_unconfirmed(first, "why")
    monkeypatch.setattr(flight, "YOUNG", 0.0)
    setup.flights.was_deleted(first.key)
    if taken_over:  # by an attempt that came all the same
        setup.flights.was_settled(first.key)
    deaf.set()
    await ends(first)
    await asyncio.sleep(0.05)
    assert ("cancel" in setup.agent.asked) == (not taken_over)


@pytest.mark.parametrize("step", ["get", "cancel"])
async def test_a_step_of_a_cancel_that_never_ends_is_followed_by_another_one(
    setup: Setup, deaf: Deaf, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(cancel, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(cancel, "OVERDUE", 0.02)
    setup.agent.script["get"] = [RUNNING, RUNNING, Status(Phase.ABORTED)]
    setup.agent.script[step].insert(0, deaf)
    opened = setup.opened()
    assert await setup.cancelling.delete(opened, within(20)) == ""
    assert setup.agent.asked.count("cancel") == (1 if step == "get" else 2)
    assert not setup.kernel.soft.stopping
    assert len(setup.served.left_behind) == 1
    deaf.set()
    await until(lambda: not setup.served.left_behind)


async def test_a_drain_that_gives_a_cancel_up_ends_its_step_too(setup: Setup) -> None:
    setup.agent.script["cancel"] = [asyncio.Event(), None]
    setup.cancelling.detach(setup.opened())
    await until(lambda: "cancel" in setup.agent.asked)
    assert await setup.kernel.detached.drain(0.01) == 1
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
