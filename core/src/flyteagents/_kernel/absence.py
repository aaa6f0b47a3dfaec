"""Earlier attempts whose jobs were looked for and not there: how often to look again.

A submit may still be on its way, and an index lags behind its vendor's writes, so one look is not
enough. To look for each of them in each attempt is too much: where a vendor is slow no attempt
would come to its own submit.
"""

from __future__ import annotations

import time
from math import inf
from typing import NamedTuple

from flyteagents._kernel.open_job import YOUNG
from flyteagents._status import Phase


class Absence(NamedTuple):
    """Of an attempt's job: it was not there at the first and the last look, which began at these
    times of `time.monotonic`; its submit counts as one. It is looked for again when the time since
    the first look has doubled, until it is too late for a job to appear."""

    first: float
    last: float

    @property
    def is_due(self) -> bool:
        """Whether to look once more."""
        return not self.lasts and time.monotonic() >= self.first + 2 * (self.last - self.first)

    @property
    def lasts(self) -> bool:
        """Whether no job will appear."""
        return self.last - self.first >= YOUNG


IN_VAIN = (Phase.FAILED, Phase.RETRYABLE_FAILED, Phase.ABORTED)
"""Phases of a job that has come to nothing."""
FOR_EVER = Absence(0.0, inf)
"""Of an attempt whose job has come to nothing, or does other work."""


def absent() -> Absence:
    """Not there at a look, or before a submit, that begins now."""
    now = time.monotonic()
    return Absence(now, now)


def never_sent() -> Absence:
    """Of an attempt that ended here before its submit. One look is enough: only another replica can
    have sent it, and that one had lost its caller when this one was asked."""
    before = time.monotonic() - YOUNG
    return Absence(before, before)
