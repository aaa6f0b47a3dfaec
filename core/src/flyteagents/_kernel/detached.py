"""Work that goes on when the call that began it has been answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


class Detached:
    """The server's detached tasks. They are never cancelled by a caller, only by `drain`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self.draining = False

    def start(self, work: Coroutine[Any, Any, T], *, finish: bool = True) -> asyncio.Task[T]:
        """Run `work`. With `finish`, a drain waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        if finish:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_report)
        return task

    def __len__(self) -> int:
        return len(self._tasks)

    async def drain(self, limit: float) -> int:
        """Wait for what runs, at most `limit` seconds. Returns how many were given up."""
        self.draining = True
        loop = asyncio.get_running_loop()
        end = loop.time() + limit
        while self._tasks and loop.time() < end:
            await asyncio.wait(set(self._tasks), timeout=end - loop.time())
        left = list(self._tasks)
        for task in left:
            task.cancel()
        return len(left)


def _report(task: asyncio.Task[Any]) -> None:
    # Whoever awaits the task sees its error as well; this only keeps asyncio from complaining
    # about errors that nobody was left to see.
    if not task.cancelled() and task.exception() is not None:
        log.debug("detached work ended with %r", task.exception())


async def wait_within(task: asyncio.Future[T], seconds: float) -> bool:
    """Wait for a detached task without ever cancelling it. Whether it has ended."""
    if not task.done() and seconds > 0:
        await asyncio.wait({task}, timeout=seconds)
    return task.done()
