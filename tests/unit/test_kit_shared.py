"""Work that many calls wait for."""

from __future__ import annotations

import asyncio
import gc

import pytest
from tests.unit.kit_call import KitCall

from flyteagents import Call, Unavailable
from flyteagents.kit.shared import Shared


class Work:
    """Says which call it was done for. Fails where that call has no time."""

    def __init__(self) -> None:
        self.done_for: list[Call] = []
        self.open = asyncio.Event()

    async def __call__(self, call: Call) -> int:
        self.done_for.append(call)
        await self.open.wait()
        if call.remaining <= 0:
            raise Unavailable("no time was left")
        return len(self.done_for)


async def test_it_is_done_once_for_all_who_wait_and_anew_for_who_comes_later() -> None:
    work, shared = Work(), Shared[int]()
    waiting = [asyncio.ensure_future(shared.get(work, KitCall())) for _ in range(5)]
    await asyncio.sleep(0)
    assert not shared.idle
    work.open.set()
    assert await asyncio.gather(*waiting) == [1] * 5
    assert shared.idle
    assert await shared.get(work, KitCall()) == 2


async def test_the_end_of_ones_time_fails_no_other_and_the_work_is_begun_by_one_of_them() -> None:
    work, shared = Work(), Shared[int]()
    hasty, patient = KitCall(seconds=0.0), KitCall(seconds=5.0)
    work.open.set()
    waiting = [shared.get(work, call) for call in (hasty, hasty, *[patient] * 3)]
    *failed, one, two, three = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in failed] == [Unavailable] * 2
    assert [one, two, three] == [2] * 3
    assert work.done_for == [hasty, patient]


async def test_who_gives_up_stops_nobody_else_and_cancel_stops_all() -> None:
    work, shared = Work(), Shared[int]()
    first, second = (asyncio.ensure_future(shared.get(work, KitCall())) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    assert not second.done()
    shared.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second


async def test_no_call_is_kept_when_the_work_is_done() -> None:
    work, shared = Work(), Shared[int]()
    work.open.set()
    await shared.get(work, KitCall(task_type="kept"))
    work.done_for.clear()
    gc.collect()
    kept = [one for one in gc.get_objects() if isinstance(one, KitCall) and one.task_type == "kept"]
    assert kept == []
