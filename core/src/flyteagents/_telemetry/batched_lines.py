"""Log lines of ordinary events, written together.

Each job has a line at its start and one at its end. To make, format and write one at once took 95
of a CreateTask's 820 microseconds in a loaded server. Its parts are kept instead, and a thread
formats and writes what has come in BATCH seconds: 15 microseconds a line. All other lines go out
at once, after those that wait, so the order stays. At exit logging itself flushes; what a killed
process may lose is BATCH seconds of these lines. A stream that takes no line, as on a full disk,
costs that line and nothing else.

`BATCH = 0` writes each at once.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import TextIO

from opentelemetry.trace import Span

BATCH = 0.05
"""Seconds that a line may wait."""
MOST = 5000
"""Lines that wait. Where the stream takes none, as a full pipe, whoever logs waits then too."""
_RECORD = logging.makeLogRecord({}).__dict__


class Event(logging.LogRecord):
    """The line of an ordinary event: its fields are texts and numbers that nobody changes, so it
    may be formatted later, by another thread. `span` is the one that it happened in."""

    def __init__(
        self, logger: logging.Logger, text: str, fields: Mapping[str, str | float], span: Span
    ) -> None:
        # Not the base's, which looks for the caller, the thread and the process: no line has them.
        self.__dict__.update(_RECORD, **fields)
        self.name = logger.name
        self.levelno, self.levelname = logging.INFO, "INFO"
        self.msg = text
        self.created = time.time()
        self.msecs = self.created % 1 * 1000
        self.span = span


# Python 3.10 does not take the type of the stream here.
class Lines(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes lines to a stream, each at once. One that cannot be written is lost, and counted in
    `lost`, for all streams together."""

    lost = 0

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 # logging's name
        """Name the error on stderr. Logging's own would print the line with its secrets."""
        self._lose(f"a line of {record.name}")

    def _lose(self, what: str, lines: int = 1) -> None:
        Lines.lost += lines  # with the handler's lock held
        if logging.raiseExceptions:
            error = type(sys.exc_info()[1]).__name__
            with suppress(Exception):  # stderr may be what fails
                sys.stderr.write(f"flyteagents: the log lacks {what}: {error}\n")


class BatchedLines(Lines):
    """Writes lines to a stream: an `Event` soon, all others at once."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._start()
        # For as long as the process lives, which has one of these.
        os.register_at_fork(after_in_child=self._start)

    def _start(self) -> None:
        """Begin with nothing: in a forked process too, which has no thread yet, and whose parent
        writes what waited."""
        self._waiting: deque[Event] = deque()
        self._some = threading.Event()
        self._thread: threading.Thread | None = None

    def handle(self, record: logging.LogRecord) -> bool:
        if not isinstance(record, Event) or not BATCH or len(self._waiting) >= MOST:
            return bool(super().handle(record))
        # Without the handler's lock, which is held while what waited is written.
        self._waiting.append(record)
        if not self._some.is_set():
            self._wake()
        return True

    def emit(self, record: logging.LogRecord) -> None:
        self.flush()
        super().emit(record)

    def flush(self) -> None:
        """Write what waits. Never raises: the thread would end by it, and a call that logs fail."""
        lines = []
        self.acquire()
        try:
            while self._waiting:
                event = self._waiting.popleft()
                try:
                    lines.append(self.format(event) + self.terminator)
                except Exception:  # noqa: BLE001 # as logging has it: no line may stop the program
                    self.handleError(event)
            if lines:
                self.stream.write("".join(lines))
            super().flush()
        except Exception:  # noqa: BLE001 # a full disk, a reader that is gone
            self._lose("some lines", max(len(lines), 1))
        finally:
            self.release()

    def _wake(self) -> None:
        self._some.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log-lines", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # there are too many, or Python is ending
                self._thread = None
                self._some.clear()
                self.flush()

    def _run(self) -> None:
        while True:
            self._some.wait()
            time.sleep(BATCH)
            # Before what waits is looked at: what comes meanwhile wakes this thread again.
            self._some.clear()
            self.flush()
