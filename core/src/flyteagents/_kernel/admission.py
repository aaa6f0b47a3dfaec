"""How much one agent works on at once, and what of that does not end."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any

log = logging.getLogger("flyteagents")
LEFT_BEHIND = 1000
"""Tasks of one agent that are given up and do not end. Each takes some memory and no place; those
beyond keep theirs, which ends the agent's work when it has no place left."""


class Admission:
    """A limit with a queue whose members give up at their own time.

    `held` is how many are inside. Callers `leave` once for each time they came in.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def try_enter(self) -> bool:
        """Come in if there is room and nobody waits."""
        if self.held >= self.limit or self._waiting:
            return False
        self.held += 1
        return True

    async def enter(self, patience: float) -> bool:
        """Come in within `patience` seconds. False when there was no room."""
        if self.try_enter():
            return True
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await asyncio.wait_for(place, patience)
        except asyncio.TimeoutError:
            # From Python 3.12 on also where room was given in the turn in which the time ended: not
            # to take it would lose it for good.
            return place.done() and not place.cancelled()
        except asyncio.CancelledError:
            # Room was given in the very turn in which the caller left; it would be lost for good.
            if place.done() and not place.cancelled():
                self.leave()
            raise
        finally:
            if place in self._waiting:
                self._waiting.remove(place)
        return True

    def leave(self) -> None:
        """Make room; the one that has waited longest takes it."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                # `held` stays as it is: the room changes hands, so nobody can take it in between.
                place.set_result(None)
                return
        self.held -= 1


class LeftBehind:
    """What one agent goes on with after its time, since it catches the cancel that ends it."""

    def __init__(self, task_type: str) -> None:
        self._task_type = task_type
        self._work: set[asyncio.Task[Any]] = set()  # asyncio itself holds its tasks only weakly

    def __len__(self) -> int:
        return len(self._work)

    def add(self, operation: str, work: asyncio.Task[Any]) -> bool:
        """Whether others may have the place, or the turn, that `work` had."""
        if len(self._work) >= LEFT_BEHIND:
            return False
        self._work.add(work)
        work.add_done_callback(self._ended)
        text = "%s: %s goes on after its time, since the agent catches the cancel that ends it (%d)"
        log.error(text, self._task_type, operation, len(self._work))
        return True

    def _ended(self, work: asyncio.Task[Any]) -> None:
        self._work.discard(work)
        if not work.cancelled():
            work.exception()  # asyncio complains of an error that nobody has looked at
