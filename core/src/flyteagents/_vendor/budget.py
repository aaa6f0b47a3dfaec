"""How long a call may go on asking its vendor, and what it may send again."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")
OUT_OF_TIME = "there was no time left to ask the vendor"


@dataclass
class Budget:
    """Times are those of `time.monotonic`.

    until: no new request begins after it.
    repeat: which POSTs may be sent again. "unsent": only those that surely never took effect
        (the connection failed, or the vendor answered 429 or 503).
    limit: seconds that one request may take on the wire, whatever `until` says: a submit that is
        torn down half-way leaves a job that nobody knows.
    retries: False in polls, where the next poll is the retry.
    closed: the caller has its answer; nothing new is sent.
    """

    until: float
    repeat: Literal["any", "unsent"] = "any"
    limit: float = 60.0
    retries: bool = True
    closed: bool = False

    @property
    def left(self) -> float:
        """Seconds in which a request may begin."""
        return 0.0 if self.closed else max(self.until - time.monotonic(), 0.0)


def backoff(tries: int, asked: float | None) -> float:
    """Seconds before the next try, after `tries` repeats: at least what the vendor `asked` for."""
    return max(asked or 0.0, random.uniform(0.0, min(0.1 * 2**tries, 2.0)))  # noqa: S311


async def within(seconds: float, work: Awaitable[T]) -> T:
    """What `work` comes to. Raises asyncio.TimeoutError when it takes longer."""
    if sys.version_info >= (3, 11):
        async with asyncio.timeout(seconds):  # a task less than wait_for, in every call
            return await work
    return await asyncio.wait_for(work, seconds)
