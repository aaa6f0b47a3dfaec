"""The time that a caller gives for an answer."""

from __future__ import annotations

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


class Deadline:
    """The time a caller gives, and what of it we may use: `until`, by `time.monotonic`."""

    def __init__(self, remaining: float | None) -> None:
        if remaining is None:
            budget = MOST
        else:
            budget = min(remaining - max(RETURN, remaining * RETURN_SHARE), MOST)
        self.until = time.monotonic() + max(budget, 0.0)

    @property
    def left(self) -> float:
        """Seconds that are left to answer in."""
        return max(self.until - time.monotonic(), 0.0)
