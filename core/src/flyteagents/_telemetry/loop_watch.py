"""Notices code that blocks the event loop, and whose it is.

A thread asks the loop for a sign of life, again and again. While none comes, it looks where the
loop's thread is.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from flyteagents._telemetry.metrics import Metrics

# Where the loop's thread is while it waits; uvloop waits outside of Python, in the loop's runner.
_IDLE = frozenset(("selectors", "asyncio.base_events", "asyncio.runners", "uvloop"))
_LONG = 5.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where the loop was blocked: "module:line function", and the agent that `blame` names."""

    agent: str = ""
    code: str = "an unknown place (was the process paused?)"


class LoopWatch:
    """Watches the running loop from `start` to `stop`.

    blame: module name to the agent whose code that is, or None.
    blocked: told the agent and the seconds so far, from the watch's thread, again and again
    while an agent's code blocks the loop."""

    def __init__(
        self,
        metrics: Metrics,
        blame: Callable[[str], str | None],
        blocked: Callable[[str, float], None] = lambda agent, seconds: None,
        threshold: float = 0.25,
        every: float = 0.1,
    ) -> None:
        self._metrics = metrics
        self._blame = blame
        self._blocked = blocked
        self._threshold = threshold
        self._every = every
        self._stopped = threading.Event()

    def start(self) -> None:
        """Call it on the loop."""
        loop, ident = asyncio.get_running_loop(), threading.get_ident()
        threading.Thread(
            target=self._watch, args=(loop, ident), name="loop-watch", daemon=True
        ).start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, ident: int) -> None:
        with suppress(RuntimeError):  # the loop has ended
            while not self._stopped.wait(self._every):
                alive, asked = threading.Event(), time.monotonic()
                loop.call_soon_threadsafe(alive.set)
                place, told = Place(), False
                while not alive.wait(self._threshold) and not self._stopped.is_set():
                    late = time.monotonic() - asked
                    place = self._look(ident)
                    if place.agent:
                        self._blocked(place.agent, late)
                    if late > _LONG and not told:  # it may never end, and so never be logged
                        told = True
                        _log.error("the event loop is blocked since %.0f s: %s", late, place)
                if alive.is_set():  # else it was stopped, and a loop that ends is not blocked
                    self._note(time.monotonic() - asked, place)

    def _note(self, late: float, place: Place) -> None:
        self._metrics.lag.record(late)
        if late > self._threshold:
            self._metrics.blocked.add(place.agent, amount=late)
            _log.warning(
                "the event loop was blocked for %.2f s by %s, at %s; move what blocks to "
                "call.blocking",
                late,
                f"agent {place.agent}" if place.agent else "no agent",
                place.code,
            )

    def _look(self, ident: int) -> Place:
        """The innermost frame that is an agent's, else the innermost one."""
        frame = sys._current_frames().get(ident)  # noqa: SLF001 # has no public name
        first = Place()
        while frame is not None:
            module = str(frame.f_globals.get("__name__", "?"))
            code = f"{module}:{frame.f_lineno} {frame.f_code.co_name}"
            if first == Place():
                if module in _IDLE:  # the loop waits: the process was paused
                    break
                first = Place(code=code)
            if agent := self._blame(module):
                return Place(agent, code)
            frame = frame.f_back
        return first
