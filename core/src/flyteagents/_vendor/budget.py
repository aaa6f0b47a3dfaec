"""How long a call may go on asking its vendor, and what it may send again."""

from __future__ import annotations

import asyncio
import random
import sys
import time
import types
from collections.abc import Awaitable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

T = TypeVar("T")
OUT_OF_TIME = "there was no time left to ask the vendor"


@dataclass
class Budget:
    """Times are those of `time.monotonic`.

    until: no new request begins after it.
    repeat: which POSTs may be sent again. "unsent": only those that surely never took effect
        (the connection failed, or the vendor itself answered 429 or 503).
    limit: seconds that one request may take on the wire, whatever `until` says: a submit that is
        torn down half-way leaves a job that nobody knows.
    retries: False in polls, where the next poll is the retry.
    closed: the caller has its answer; nothing new is sent.
    trouble: why the vendor was asked again, in its last words: what to tell of a call whose time
        ends while the next try is under way.
    """

    until: float
    repeat: Literal["any", "unsent"] = "any"
    limit: float = 60.0
    retries: bool = True
    closed: bool = False
    trouble: str = ""

    @property
    def left(self) -> float:
        """Seconds in which a request may begin."""
        return 0.0 if self.closed else max(self.until - time.monotonic(), 0.0)


def backoff(tries: int, asked: float | None) -> float:
    """Seconds before the next try, after `tries` repeats: at least what the vendor `asked` for."""
    # From 0 on, so that those who failed together do not come back together.
    return max(asked or 0.0, random.uniform(0.0, min(0.1 * 2**tries, 2.0)))  # noqa: S311


# `asyncio.timeout` is new in 3.11; before, `wait_for` makes a task for each.
if sys.version_info >= (3, 11):

    @types.coroutine
    def within(seconds: float, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """What `work` comes to. Raises asyncio.TimeoutError when it takes longer.

        What ends in its first step is not timed: the timer costs more than most of what waits for
        nothing, such as an endpoint that is made of settings."""
        try:
            waited_for = work.send(None)
        except StopIteration as end:
            result: T = end.value
            return result
        return (yield from _timed(seconds, _resumed(work, waited_for)).__await__())

    async def _timed(seconds: float, work: Awaitable[T]) -> T:
        async with asyncio.timeout(seconds):
            return await work

    @types.coroutine
    def _resumed(work: Coroutine[Any, Any, T], waited_for: Any) -> Generator[Any, Any, T]:
        """`yield from work`, after its first step."""
        while True:
            try:
                # The first step's future has left `work` already, so the loop gets it from here;
                # and what the loop gives back, a cancel too, must reach `work`.
                given = yield waited_for
            except BaseException as error:  # noqa: BLE001 # it is handed on, whatever it is
                step, what = work.throw, error
            else:
                step, what = work.send, given
            try:
                waited_for = step(what)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                del step, what  # an error would hold this frame, which would hold it

else:

    async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """What `work` comes to. Raises asyncio.TimeoutError when it takes longer.

        Not `asyncio.wait_for`, which up to 3.11 may lose a cancel that comes as `work` ends."""
        from async_timeout import timeout  # for 3.10 alone

        async with timeout(seconds):
            return await work
