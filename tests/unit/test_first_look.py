"""A job's first poll waits a moment for its end, and only that one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from tests.unit.kernel_setup import RUNNING, SUCCEEDED, Setup, within

from flyteagents import Phase, Unavailable
from flyteagents._kernel import poll
from flyteagents._kernel.poll import HELD, NEW, STEP, Polling
from flyteagents._kernel.settings import KernelSettings


class Clock:
    """The time that first polls go by: it passes while they sleep, and so not by a machine's load.
    Until `goes` is set, who sleeps goes on sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.goes = asyncio.Event()
        self.goes.set()

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await self.goes.wait()
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    times = SimpleNamespace(monotonic=clock.monotonic, time=time.time)
    monkeypatch.setattr(poll, "time", times)
    waits = SimpleNamespace(sleep=clock.sleep, current_task=asyncio.current_task)
    monkeypatch.setattr(poll, "asyncio", waits)
    return clock


@pytest.fixture
def polling(setup: Setup, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Polling]:
    monkeypatch.setattr(setup.agent, "may_end_soon", True, raising=False)
    setup.kernel.settings = KernelSettings(first_look=1.5)
    polling = Polling(setup.kernel, setup.cancelling, setup.flights.resume)
    yield polling
    assert polling._held == 0


async def test_a_short_job_has_ended_in_its_first_answer(setup: Setup, polling: Polling) -> None:
    setup.agent.script["get"] = [RUNNING, RUNNING, SUCCEEDED]
    assert (await polling.poll(setup.opened(), within(60))).phase is Phase.SUCCEEDED


async def test_a_job_that_runs_longer_is_answered_after_that_moment_and_then_at_once(
    setup: Setup, polling: Polling
) -> None:
    opened = setup.opened()
    assert (await polling.poll(opened, within(60))).phase is Phase.RUNNING
    looks = len(setup.agent.asked)
    assert looks == 5
    assert (await polling.poll(opened, within(60))).phase is Phase.RUNNING
    assert len(setup.agent.asked) == looks + 1


async def test_only_some_polls_are_held_at_once(
    setup: Setup, polling: Polling, clock: Clock
) -> None:
    clock.goes.clear()
    opened = [setup.opened() for _ in range(HELD + 2)]
    polls = [asyncio.create_task(polling.poll(each, within(60))) for each in opened]
    for _ in range(1000):  # as many turns as they could need
        await asyncio.sleep(0)
    assert [each.done() for each in polls].count(True) == 2
    clock.goes.set()
    await asyncio.gather(*polls)


@pytest.mark.parametrize("why", ["no agent says so", "switched off", "an old job", "no time"])
async def test_others_are_answered_at_once(
    setup: Setup, polling: Polling, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "no agent says so":
        monkeypatch.setattr(setup.agent, "may_end_soon", False)
    if why == "switched off":
        setup.kernel.settings = KernelSettings(first_look=0)
    opened = setup.opened(age=NEW + 1 if why == "an old job" else 0)
    # Half of a caller's time at most: the last look needs some as well.
    await polling.poll(opened, within(0.0001 if why == "no time" else 60))
    assert len(setup.agent.asked) <= 1


async def test_a_vendor_that_fails_or_is_slow_holds_no_worker(
    setup: Setup, polling: Polling, clock: Clock
) -> None:
    setup.agent.script["get"] = [Unavailable("down")]
    await polling.poll(setup.opened(), within(60))
    answers = asyncio.Event()
    setup.agent.script["get"] = [answers, RUNNING]
    slow = asyncio.create_task(polling.poll(setup.opened(), within(60)))
    while len(setup.agent.asked) < 2:  # noqa: ASYNC110 # nobody sets an event
        await asyncio.sleep(0)
    clock.now += STEP * 1.1
    answers.set()
    await slow
    assert setup.agent.asked == ["get"] * 2


async def test_a_cancel_ends_it(setup: Setup, polling: Polling, clock: Clock) -> None:
    clock.goes.clear()
    opened = setup.opened()
    held = asyncio.create_task(polling.poll(opened, within(60)))
    while not setup.agent.asked:  # noqa: ASYNC110
        await asyncio.sleep(0)
    looks = len(setup.agent.asked)
    setup.cancelling.detach(opened)
    clock.goes.set()
    assert (await asyncio.wait_for(held, 60)).phase is Phase.RUNNING
    assert clock.now < 1.5
    assert looks == 1
