"""The time that a caller gives for an answer."""

from __future__ import annotations

import math
import time

MOST = 8.0
"""Seconds for an answer, whatever the caller allows. Flyte waits 10 s by default
(flyteplugins .../webapi/connector/config.go:45), so 8 is what it takes there anyway. Endpoints with
settings of their own have no deadline at all (client.go:77-92), and each call holds one of twenty
workers."""
RETURN = 0.3
RETURN_SHARE = 0.1
"""What is left for the answer's way back: a tenth, and never less than 0.3 s, since one packet
that is lost costs 0.2 s (Linux' least time before TCP sends again). Of the 3 s that the old agent
section allows (agent/config.go:45), both are the same."""


AT_WORK = 60.0
"""Seconds for a call that is itself the work (ExecuteTaskSync), where the caller gives no limit.
One that it gives counts in full: the task's author knows how long the work takes."""


class Deadline:
    """The time a caller gives, and what of it we may use: `until`, by `time.monotonic`, and
    `seconds` in all. most: what is used of it at most."""

    def __init__(self, remaining: float | None, most: float = MOST) -> None:
        if remaining is None:
            budget = most
        else:
            budget = min(remaining - max(RETURN, remaining * RETURN_SHARE), most)
        self.seconds = max(budget, 0.0)
        self.until = time.monotonic() + self.seconds

    @classmethod
    def at_work(cls, remaining: float | None) -> Deadline:
        """For ExecuteTaskSync."""
        return cls(AT_WORK if remaining is None else remaining, most=math.inf)

    @property
    def left(self) -> float:
        """Seconds that are left to answer in."""
        return max(self.until - time.monotonic(), 0.0)
