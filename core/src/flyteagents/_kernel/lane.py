"""Where an agent's code runs: on the server's loop, or in a thread with a loop of its own.

A thread switch for every call would cost all agents about a third of their rate, so an agent
begins on the server's loop. One that is seen to block it is moved away, and from then on stops
nobody but itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class Lane:
    """The place one agent runs in: its caller's loop or, with `first`, a thread with one of its
    own, which awaits `first` before anything else."""

    def __init__(self, name: str, first: Callable[[], Awaitable[None]] | None = None) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        if first is not None:
            self._loop = asyncio.new_event_loop()
            # Before the loop runs, so that it is the first thing there. Kept, since asyncio holds
            # its tasks only weakly, and one that nobody holds may be collected.
            self._opening = self._loop.create_task(_completed(first))
            # A daemon: a method that blocks for ever must not keep the process from ending.
            self._thread = threading.Thread(
                target=self._loop.run_forever, name=f"flyteagents-lane-{name}", daemon=True
            )
            self._thread.start()

    @property
    def isolated(self) -> bool:
        return self._loop is not None

    def run(
        self, method: Callable[..., Coroutine[Any, Any, T]], *args: object
    ) -> Coroutine[Any, Any, T]:
        """What `await method(*args)` comes to, in the lane."""
        return method(*args) if self._loop is None else _there(self._loop, method, args)

    async def close(self, last: Callable[[], Awaitable[None]]) -> None:
        """Await `last` in the lane, then end its thread; a method that blocks the thread for longer
        than a second is left behind."""
        if self._loop is None or self._thread is None:
            await last()
            return

        ending = asyncio.run_coroutine_threadsafe(_completed(last), self._loop)
        try:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(ending), 1.0)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join, 1.0)
            if not self._thread.is_alive():
                self._loop.close()


async def _there(
    loop: asyncio.AbstractEventLoop,
    method: Callable[..., Coroutine[Any, Any, T]],
    args: tuple[object, ...],
) -> T:
    async def called() -> T:  # there too: what it does before it waits may block already
        return await method(*args)

    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(called(), loop))


async def _completed(first: Callable[[], Awaitable[None]]) -> None:
    await first()
