"""Notices code that blocks the event loop, and whose it is.

A tick on the loop says how late the loop is. A thread notices a tick that does not come and
looks where the loop's thread is at that moment; the tick that ends the block tells its length.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flyteagents._telemetry.metrics import Metrics

_IDLE = frozenset(("selectors", "asyncio.base_events"))
_LONG = 5.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where the loop was blocked: "module:line function", and the agent that `blame` names."""

    agent: str | None
    code: str


class LoopWatch:
    """blame: module name to the agent whose code that is, or None.
    blocked: told the agent and the seconds, on the loop after each block, and also meanwhile, from
    the watch's thread: what waits for the loop may be of the same agent and block it as well, one
    after another."""

    def __init__(
        self,
        metrics: Metrics,
        blame: Callable[[str], str | None],
        blocked: Callable[[str, float], None] = lambda agent, seconds: None,
        threshold: float = 0.25,
        tick: float = 0.1,
    ) -> None:
        self._metrics = metrics
        self._blame = blame
        self._blocked = blocked
        self._threshold = threshold
        self._every = tick
        self._seen: tuple[float, Place | None] = (0.0, None)
        self._stopped = threading.Event()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Watch the running loop; call it from there."""
        self._loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()
        self._schedule()
        threading.Thread(target=self._watch, name="loop-watch", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        if self._timer:
            self._timer.cancel()

    def _schedule(self) -> None:
        self._due = time.monotonic() + self._every
        self._timer = self._loop.call_later(self._every, self._tick)

    def _tick(self) -> None:
        late = max(0.0, time.monotonic() - self._due)
        due, place = self._seen
        if due != self._due:
            place = None
        self._schedule()
        self._metrics.lag.record(late)
        if late > self._threshold:
            agent = place.agent if place else None
            self._metrics.blocked.add(agent or "", amount=late)
            _log.warning(
                "the event loop was blocked for %.2f s by %s, at %s; move what blocks to "
                "call.blocking",
                late,
                f"agent {agent}" if agent else "no agent",
                place.code if place else "an unknown place (was the process paused?)",
            )
            if agent:
                self._blocked(agent, late)

    def _watch(self) -> None:
        told = 0.0
        while not self._stopped.wait(self._every):
            due = self._due
            late = time.monotonic() - due
            if late > self._threshold and self._seen[0] != due:
                self._seen = (due, self._look())
            elif late > self._threshold:
                before, place = self._seen[1], self._look()
                if place and place.agent and before and place.agent == before.agent:
                    self._blocked(place.agent, late)
                if late > _LONG and told != due:  # it may never end, and so never be logged
                    told = due
                    _log.error("the event loop is blocked since %.0f s: %s", late, place)

    def _look(self) -> Place | None:
        """The innermost frame that is an agent's, else the innermost one."""
        first = None
        for module, code in self._frames():
            if first is None:
                if module in _IDLE:  # the loop waits: the process was paused
                    return None
                first = Place(None, code)
            if agent := self._blame(module):
                return Place(agent, code)
        return first

    def _frames(self) -> Iterator[tuple[str, str]]:
        frame = sys._current_frames().get(self._ident)  # noqa: SLF001 # has no public name
        while frame is not None:
            module = str(frame.f_globals.get("__name__", "?"))
            yield module, f"{module}:{frame.f_lineno} {frame.f_code.co_name}"
            frame = frame.f_back
