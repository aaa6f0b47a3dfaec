"""Work that goes on when the call that began it has been answered."""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Coroutine, Generator, Iterator
from typing import Any, TypeVar

from flyteagents._errors import AgentError, JobNotFound

T = TypeVar("T")
log = logging.getLogger(__name__)
FIRST_PAUSE, LAST_PAUSE = 0.5, 10.0
"""Seconds between tries without a caller, doubling: a vendor that is away for a moment has the job
soon, and one that is away for minutes is not overrun."""

LAST_WORDS = 1.0
"""Seconds for work that a drain gives up."""


class Detached:
    """The server's detached tasks. They are never cancelled by a caller, only by `drain`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self.draining = False

    def start(
        self, work: Coroutine[Any, Any, T], *, finish: bool = True, told: bool = False
    ) -> asyncio.Task[T]:
        """Run `work`. With `finish`, a drain waits for it. Without, the caller keeps the task,
        since the loop itself has only weak references to tasks; and the work never fails. told:
        whoever began it tells of its error, also when nobody is left to hear of it."""
        task = asyncio.get_running_loop().create_task(_without_frames(work) if told else work)
        if finish:
            self._tasks.add(task)
            # At once, and by a callback of each: a task holds its result, and by a traceback all
            # that its call was given.
            task.add_done_callback(self._ended_told if told else self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        error = self._ended_told(task)
        if error is not None:
            # Nobody waits for it, so this is all that will ever be heard of it.
            name = getattr(task.get_coro(), "__qualname__", "work")
            log.error("%s ended by an error, and nobody waits for it", name, exc_info=error)

    def _ended_told(self, task: asyncio.Task[Any]) -> BaseException | None:
        self._tasks.discard(task)
        # Taken in any case: asyncio complains of an error that nobody has looked at.
        return None if task.cancelled() else task.exception()

    def __len__(self) -> int:
        return len(self._tasks)

    async def drain(self, limit: float) -> int:
        """Wait for what runs, at most `limit` seconds. Returns how many were given up."""
        self.draining = True
        loop = asyncio.get_running_loop()
        end = loop.time() + limit
        # Again and again: what ends may start more, as a flight that lands unheard starts a cancel.
        while self._tasks and loop.time() < end:
            await asyncio.wait(set(self._tasks), timeout=end - loop.time())
        left = [task for task in self._tasks if not task.done()]
        for task in left:
            task.cancel()
        if left:  # they have a last word in the log
            await asyncio.wait(left, timeout=LAST_WORDS)
        return len(left)


async def _without_frames(work: Coroutine[Any, Any, T]) -> T:
    """What `work` comes to. An error is told by its text alone, unless it is a bug: the frames that
    it went through hold what holds its task, so a large request would stay until Python's next
    collection, which may be thousands of calls later."""
    try:
        return await work
    except JobNotFound:  # a bug, where it is raised by a create
        raise
    except AgentError as error:
        raise error.with_traceback(None)  # noqa: B904 # it is the same one
    finally:
        del work


def pauses() -> Iterator[float]:
    """Seconds to wait between tries of detached work, without an end."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 2, LAST_PAUSE)


async def wait_within(task: asyncio.Future[T], seconds: float) -> bool:
    """Wait for a detached task without ever cancelling it. Whether it has ended."""
    if task.done() or seconds <= 0:
        return task.done()
    await turn()
    if not task.done():
        await ended_or_late(task, seconds)
    return task.done()


@types.coroutine
def turn() -> Generator[None, None, None]:
    """One turn of the event loop. What was started before and waits for nothing has ended after it,
    and a timer costs more than that."""
    yield


async def ended_or_late(task: asyncio.Future[T], seconds: float) -> None:
    """What `asyncio.wait` does for a set of tasks, for one: a quarter of the time."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def wake(_: object = None) -> None:
        # The timer, the task and a cancel of the caller may all come; a future is set only once.
        if not waiter.done():
            waiter.set_result(None)

    timer = loop.call_later(seconds, wake)
    task.add_done_callback(wake)
    try:
        await waiter
    finally:
        timer.cancel()
        task.remove_done_callback(wake)
