"""How much one agent works on at once."""

from __future__ import annotations

import asyncio
import time

from flyteagents._kernel.admission import Admission


async def test_no_more_come_in_than_there_is_room_for() -> None:
    door = Admission(2)
    assert door.try_enter()
    assert door.try_enter()
    assert not door.try_enter()
    door.leave()
    assert door.try_enter()


async def test_those_that_wait_come_in_by_turns() -> None:
    door = Admission(1)
    order: list[int] = []

    async def worker(number: int) -> None:
        assert await door.enter(60)
        order.append(number)
        await asyncio.sleep(0)
        door.leave()

    await asyncio.gather(*(worker(number) for number in range(5)))
    assert order == [0, 1, 2, 3, 4]
    assert door.held == 0


async def test_one_that_waits_too_long_is_turned_away_and_holds_nothing() -> None:
    door = Admission(1)
    assert door.try_enter()
    assert not await door.enter(0.01)
    door.leave()
    assert door.held == 0
    assert door.try_enter()


async def test_one_that_is_cancelled_while_it_waits_holds_nothing() -> None:
    door = Admission(1)
    assert door.try_enter()
    waiting = asyncio.create_task(door.enter(5))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    door.leave()
    assert door.held == 0


async def test_one_that_is_cancelled_just_as_it_is_let_in_gives_its_place_back() -> None:
    door = Admission(1)
    assert door.try_enter()
    waiting = asyncio.create_task(door.enter(5))
    await asyncio.sleep(0.01)
    door.leave()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    if not waiting.cancelled() and waiting.result():
        door.leave()
    assert door.held == 0


async def test_room_that_is_made_as_the_time_of_who_waits_ends_is_not_lost() -> None:
    door = Admission(1)
    assert door.try_enter()
    waiting = asyncio.create_task(door.enter(0.01))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.005, door.leave)
    time.sleep(0.03)  # noqa: ASYNC251 # so that both come in one turn of the loop, the room first
    if await waiting:
        door.leave()
    assert door.held == 0
