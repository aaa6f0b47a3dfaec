"""What Ctrl-C, SIGTERM and the end of the terminal do to `flyteagents run`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from flyteagents._cli import screen
from flyteagents._client.exit_codes import INTERRUPTED

_AT_ONCE = 0.3
"""Seconds in which signals count as one: a terminal sends SIGINT to a wrapper too, and that may
pass it on."""
_SHOW_CURSOR = b"\x1b[?25h"


class Interrupts:
    """The first signal raises KeyboardInterrupt, or calls what `calling` says; a later one ends
    the process at once, with `before_leaving` as the last thing, and what `leaving` says."""

    def __init__(self) -> None:
        self.before_leaving: Callable[[], None] = lambda: None
        self.leaving: Callable[[], str] = lambda: "the job may run on"
        self._call: Callable[[], None] | None = None
        self._first = 0.0

    @contextmanager
    def installed(self) -> Iterator[None]:
        """A KeyboardInterrupt that nobody caught ends the process with exit code 130."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupted)
        try:
            yield
        except KeyboardInterrupt:
            screen.fail(INTERRUPTED, "interrupted")

    @contextmanager
    def calling(self, function: Callable[[], None]) -> Iterator[None]:
        """Call this at the first signal instead of raising: an event loop must not be torn."""
        before, self._call = self._call, function
        try:
            yield
        finally:
            self._call = before

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if not self._first:
            self._first = time.monotonic()
            if self._call is None:
                raise KeyboardInterrupt
            self._call()
        elif time.monotonic() - self._first > _AT_ONCE:
            with suppress(OSError):
                self.before_leaving()
            _leave(self.leaving())


def _leave(text: str) -> None:
    # Not with `print`: the signal may have come in the midst of one.
    for stream in (1, 2):
        if os.isatty(stream):
            os.write(stream, _SHOW_CURSOR)
    with suppress(OSError):
        os.write(2, f"\nflyteagents: interrupted again, so it is left as it is; {text}\n".encode())
    # Not `sys.exit`: it raises in whatever the signal has interrupted, which may catch it.
    os._exit(INTERRUPTED)
