"""A job's first poll waits a moment for its end, and only that one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.unit.kernel_setup import RUNNING, SUCCEEDED, Setup, within

from flyteagents import Phase, Unavailable
from flyteagents._kernel import poll
from flyteagents._kernel.poll import HELD, NEW, Polling
from flyteagents._kernel.settings import KernelSettings


@pytest.fixture
def polling(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> Iterator[Polling]:
    monkeypatch.setattr(setup.agent, "may_end_soon", True, raising=False)
    monkeypatch.setattr(poll, "STEP", 0.02)
    setup.kernel.settings = KernelSettings(first_look=0.1)
    polling = Polling(setup.kernel, setup.cancelling, setup.flights.resume)
    yield polling
    assert polling._held == 0


async def test_a_short_job_has_ended_in_its_first_answer(setup: Setup, polling: Polling) -> None:
    setup.agent.script["get"] = [RUNNING, RUNNING, SUCCEEDED]
    assert (await polling.poll(setup.opened(), within(1))).phase is Phase.SUCCEEDED


async def test_a_job_that_runs_longer_is_answered_after_that_moment_and_then_at_once(
    setup: Setup, polling: Polling
) -> None:
    opened = setup.opened()
    assert (await polling.poll(opened, within(1))).phase is Phase.RUNNING
    looks = len(setup.agent.asked)
    assert 2 <= looks <= 6
    assert (await polling.poll(opened, within(1))).phase is Phase.RUNNING
    assert len(setup.agent.asked) == looks + 1


async def test_only_some_polls_are_held_at_once(setup: Setup, polling: Polling) -> None:
    opened = [setup.opened() for _ in range(HELD + 2)]
    polls = [asyncio.create_task(polling.poll(each, within(1))) for each in opened]
    await asyncio.sleep(0.01)
    assert [each.done() for each in polls].count(True) == 2
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
    await polling.poll(opened, within(0.0001 if why == "no time" else 1))
    assert len(setup.agent.asked) <= 1


async def test_a_vendor_that_fails_or_is_slow_holds_no_worker(
    setup: Setup, polling: Polling
) -> None:
    setup.agent.script["get"] = [Unavailable("down")]
    await polling.poll(setup.opened(), within(1))
    answers = asyncio.Event()
    setup.agent.script["get"] = [answers, RUNNING]
    slow = asyncio.create_task(polling.poll(setup.opened(), within(1)))
    await asyncio.sleep(0.03)
    answers.set()
    await slow
    assert setup.agent.asked == ["get"] * 2


async def test_a_cancel_ends_it(setup: Setup, polling: Polling) -> None:
    setup.kernel.settings = KernelSettings(first_look=30)
    opened = setup.opened()
    held = asyncio.create_task(polling.poll(opened, within(60)))
    await asyncio.sleep(0.01)
    setup.cancelling.detach(opened)
    assert (await asyncio.wait_for(held, 1)).phase is Phase.RUNNING
