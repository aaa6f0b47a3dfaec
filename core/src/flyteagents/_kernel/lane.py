"""Where an agent's code runs: on the server's loop, or in a thread with a loop of its own.

A thread switch for every call would cost all agents about a third of their rate, so an agent
begins on the server's loop. One that is seen to block it is moved away, and from then on stops
nobody but itself.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from flyteagents._errors import Unavailable

T = TypeVar("T")
log = logging.getLogger("flyteagents")
EXITS = (KeyboardInterrupt, SystemExit)
"""What ends the event loop that it is raised on, and with it the server."""
RAISED = (Exception, *EXITS)
"""What an agent's own code may raise. The end of a task is not among it."""


def no_error(raised: BaseException) -> RuntimeError:
    """In place of what ends an event loop, or passes for the end of a task: Python does the same
    with a StopIteration."""
    return RuntimeError(f"the agent raised {type(raised).__name__}, which is no error")


class Lane:
    """The place one agent runs in: its caller's loop or, with `first`, a thread with one of its
    own, which awaits `first` before anything else. Where that fails, so does all else there."""

    def __init__(self, name: str, first: Callable[[], Awaitable[None]] | None = None) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        if first is not None:
            self._loop = asyncio.new_event_loop()
            # Before the loop runs, so that it is the first thing there. Kept, since asyncio holds
            # its tasks only weakly, and one that nobody holds may be collected.
            self._opening = self._loop.create_task(self._opened(first))
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
        return method(*args) if self._loop is None else self._there(self._loop, method, args)

    async def _opened(self, first: Callable[[], Awaitable[None]]) -> bool:
        """Whether what is awaited first went well; what did not is told here, once for all calls
        that it fails."""
        try:
            await first()
        except RAISED as error:  # the agent's own code
            log.error("%s cannot be opened on a loop of its own", self._name, exc_info=error)
            return False
        return True

    async def _there(
        self,
        loop: asyncio.AbstractEventLoop,
        method: Callable[..., Coroutine[Any, Any, T]],
        args: tuple[object, ...],
    ) -> T:
        async def called() -> T:  # there too: what it does before it waits may block already
            # Shielded: a call that is given up must not end what others wait for.
            if not await asyncio.shield(self._opening):
                raise Unavailable(
                    f"{self._name} could not be opened again; its server's log says why"
                )
            try:
                return await method(*args)
            except EXITS as raised:  # all later calls would find no loop
                raise no_error(raised) from raised

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(called(), loop))

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


async def _completed(first: Callable[[], Awaitable[None]]) -> None:
    await first()
