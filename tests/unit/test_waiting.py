"""Limits on work: what ends at once needs no timer, and what waits has one."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from typing import Any

import pytest

from flyteagents._kernel.detached import Detached, wait_within
from flyteagents._vendor.budget import within


async def at_once(value: object) -> object:
    return value


async def later(seconds: float, value: object) -> object:
    await asyncio.sleep(seconds)
    return value


async def failing(wait: bool) -> None:
    if wait:
        await asyncio.sleep(0)
    raise KeyError("mine")


class Timers:
    """Counts the timers that the running loop is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        loop = asyncio.get_running_loop()
        call_at = loop.call_at

        def counted(*given: Any, **named: Any) -> asyncio.TimerHandle:
            self.count += 1
            return call_at(*given, **named)

        monkeypatch.setattr(loop, "call_at", counted)


async def test_work_within_a_limit_comes_to_what_it_comes_to() -> None:
    assert await within(5, at_once(1)) == 1
    assert await within(5, later(0, 2)) == 2
    for wait in (False, True):
        with pytest.raises(KeyError, match="mine"):
            await within(5, failing(wait))


async def test_work_beyond_its_limit_is_cancelled() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(asyncio.current_task())

    with pytest.raises(asyncio.TimeoutError):
        await within(0.01, work())
    assert len(ended) == 1


async def test_a_limit_within_a_limit_is_the_inner_ones() -> None:
    async def inner() -> str:
        try:
            await within(0.01, later(60, None))
        except asyncio.TimeoutError:
            return "inner"
        return ""

    assert await within(5, inner()) == "inner"


async def test_cancelling_who_waits_cancels_the_work() -> None:
    async def waits() -> None:
        await within(60, later(60, None))  # as it is called: no coroutine by itself

    waiting = asyncio.create_task(waits())
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 makes a task of what is timed")
async def test_what_waits_for_nothing_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    timers = Timers(monkeypatch)
    await within(5, at_once(None))
    assert await wait_within(Detached().start(at_once(None)), 5)
    assert timers.count == 0
    await within(5, later(0, None))
    assert timers.count == 1


async def test_a_detached_task_is_waited_for_and_never_cancelled() -> None:
    detached = Detached()
    task = detached.start(later(0.03, 7))
    assert not await wait_within(task, 0.005)
    assert not await wait_within(task, 0)
    assert await wait_within(task, 5)
    assert task.result() == 7
    await asyncio.sleep(0)  # it may have ended in this very turn, before its callbacks
    assert len(detached) == 0


async def test_work_that_has_ended_is_held_by_nobody() -> None:
    detached = Detached()
    outcomes: list[weakref.ref[Outcome]] = []

    async def work(fails: bool) -> Outcome:
        outcome = Outcome()
        outcomes.append(weakref.ref(outcome))
        await asyncio.sleep(0)
        if fails:
            raise RuntimeError  # with a traceback that has `outcome`
        return outcome

    burst = [detached.start(work(fails=n % 2 == 1), told=True) for n in range(100)]
    await asyncio.wait(burst)
    del burst
    gc.collect()
    assert len(outcomes) == 100
    assert [each() for each in outcomes if each() is not None] == []


class Outcome:
    """What an agent has made of a task."""


async def test_a_drain_waits_for_nothing_that_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    gc.collect()  # what other tests have left is theirs
    caplog.clear()
    detached = Detached()
    await asyncio.wait({detached.start(fails(), told=True)})
    assert await asyncio.wait_for(detached.drain(60), 5) == 0
    gc.collect()
    assert not caplog.records  # asyncio complains of errors that nobody has looked at


async def fails() -> None:
    raise RuntimeError


async def test_who_waits_for_a_detached_task_may_be_cancelled_alone() -> None:
    task = Detached().start(later(0.03, 7))
    waiting = asyncio.create_task(wait_within(task, 60))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await task == 7
