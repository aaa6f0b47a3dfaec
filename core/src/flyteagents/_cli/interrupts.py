"""What Ctrl-C and SIGTERM do to `flyteagents run`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from flyteagents._cli import screen

INTERRUPTED = 130
"""What a shell says of a command that SIGINT ended."""
_AT_ONCE = 0.3
"""Seconds in which signals count as one: a terminal sends SIGINT to a wrapper too, and that may
pass it on."""
_LEAVING = b"\nflyteagents: interrupted again, so it is left as it is; the job may run on\n"
_SHOW_CURSOR = b"\x1b[?25h"


@contextmanager
def interruptible(before_leaving: Callable[[], None]) -> Iterator[None]:
    """Within it the first signal raises KeyboardInterrupt, and a later one ends the process at
    once. A KeyboardInterrupt that nobody caught ends it too, both with exit code 130."""
    first = 0.0

    def interrupted(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if not first:
            first = time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() - first > _AT_ONCE:
            with suppress(OSError):
                before_leaving()
            _leave()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    try:
        yield
    except KeyboardInterrupt:
        screen.fail(INTERRUPTED, "interrupted")


def _leave() -> None:
    # Not with `print`: the signal may have come in the midst of one.
    for stream in (1, 2):
        if os.isatty(stream):
            os.write(stream, _SHOW_CURSOR)
    with suppress(OSError):
        os.write(2, _LEAVING)
    os._exit(INTERRUPTED)
