"""One job as this replica has seen it: what was answered, how its polls fare, how its cancel fares.

Only this module writes these facts; poll, cancel and service say what happened. Some of it may be
lost at any time, with the replica or for want of room, and no promise is broken by that.
"""

from __future__ import annotations

import asyncio
import time
from sys import getsizeof

from flyteagents._errors import text_of
from flyteagents._kernel.answers import SMALL, Answer
from flyteagents._status import Phase, Status

REFUSALS = 3
"""How often a DeleteTask is refused for a job that no agent here can read. Another replica may
read it, so the caller is to ask again; but Flyte 1 aborts the whole workflow after eleven, counted
over all of its tasks (flytepropeller/pkg/controller/workflow/executor.go:478-520)."""


UNCHANGED = Status(None)
"""What an agent returns for a reply that it need not read. There is one, known by its identity."""
_NO_ERROR = ("", 0)
# Most jobs of agents without links have one of these, and its bytes, in common.
_BARE = {phase: Answer(phase) for phase in Phase if not phase.terminal}


class Series:
    """An unbroken series of failed polls."""

    __slots__ = ("_since", "count")

    def __init__(self) -> None:
        self.count = 0
        self._since = 0.0

    def add(self) -> None:
        if self.count == 0:
            self._since = time.monotonic()
        self.count += 1

    def end(self) -> None:
        self.count = 0

    @property
    def age(self) -> float:
        """Seconds since the series began; 0 where there is none."""
        return time.monotonic() - self._since if self.count else 0.0


class Seen:
    """What this replica has seen of one job.

    name: that of the memory.
    looked_at: it has been polled here. there: its vendor has told of it.
    phase: the last one that was answered, which is not taken back. latest: that answer.
    heard: the vendor's replies that it follows from, as a number; None where nobody has shown them,
    or it follows from something else.
    final: the answer of a job that has ended, which every later poll gets.
    failures: the polls that failed since the vendor's last word. refusals: those among them that
    failed for credentials, in a row. trouble: what the user is told of the last one.
    stop_accepted: the vendor has taken the cancel on. nothing_to_stop: it had no such job when it
    was last asked to. not_stopped: why it has not taken the cancel on; "" where it has.
    """

    # There is one for each of thousands of jobs: with a dict it would take a third more.
    __slots__ = (
        "_cancel",
        "_ended",
        "_error",
        "_poll",
        "_poll_began",
        "_refused",
        "_told_stopping",
        "failures",
        "final",
        "heard",
        "latest",
        "looked_at",
        "name",
        "not_stopped",
        "nothing_to_stop",
        "phase",
        "refusals",
        "stop_accepted",
        "task_type",
        "there",
        "trouble",
    )

    def __init__(self, task_type: str = "", name: str = "") -> None:
        self.task_type = task_type
        self.name = name
        self.looked_at = False
        self.there = False
        self.phase: Phase | None = None
        self.latest: Answer | None = None
        self.heard: int | None = None
        self.final: Answer | None = None
        self.failures = Series()
        self.refusals = Series()
        self.trouble = ""
        self.stop_accepted = False
        self.nothing_to_stop = False
        self.not_stopped = ""
        self._error = _NO_ERROR
        self._ended = False
        self._poll: asyncio.Task[Answer] | None = None
        self._poll_began = 0.0
        self._cancel: asyncio.Task[None] | None = None
        self._told_stopping = False
        self._refused = 0

    @property
    def busy(self) -> bool:
        """Whether a poll or a cancel is under way, so that the memory must not go."""
        return self.poll is not None or self.cancel is not None

    def texts(self) -> int:
        """Bytes of memory that its texts take: agents and vendors may make them long."""
        return getsizeof(self.trouble) + (self.latest.texts if self.latest else 0)

    @property
    def poll(self) -> asyncio.Task[Answer] | None:
        """The poll under way."""
        return self._poll if self._poll is not None and not self._poll.done() else None

    @property
    def poll_age(self) -> float:
        """Seconds since the last poll began."""
        return time.monotonic() - self._poll_began

    @property
    def cancel(self) -> asyncio.Task[None] | None:
        """The cancel under way."""
        return self._cancel if self._cancel is not None and not self._cancel.done() else None

    @property
    def cancel_asked(self) -> bool:
        """Whether a cancel is or was under way."""
        return self._cancel is not None

    # Polls.

    def poll_began(self, poll: asyncio.Task[Answer]) -> None:
        self._poll = poll
        self._poll_began = time.monotonic()

    def poll_ended(self) -> None:
        self._poll = None  # a task that has ended still holds its context, with spans

    def told_before(self, error: Exception) -> str:
        """What was told of the same error by the poll before: a bug's log line, with its
        traceback, is written once a series. "" where this is another one."""
        return self.trouble if self.failures.count and self._error == _said(error) else ""

    def poll_failed(self, error: Exception, text: str, *, refused: bool) -> Series:
        """The series that the patience for this failure counts from."""
        self.failures.add()
        self.trouble = text
        self._error = _said(error)
        if not refused:
            self.refusals.end()
            return self.failures
        self.refusals.add()
        return self.refusals

    def vendor_spoke(self) -> None:
        """Any answer of the vendor's ends a series."""
        self.there = True
        if self.failures.count:
            self.failures.end()
            self.refusals.end()

    def said_again(self, status: Status, heard: int | None) -> Answer | None:
        """The last answer, where the vendor has said the very same, or nothing but the phase that
        this tells: so do nearly all polls, and none of what an answer is made of needs to be looked
        at again."""
        latest = self.latest
        if latest is None or self.final is not None:
            return None
        if status is UNCHANGED:
            return latest
        wordy = status.message or status.code or status.info or latest.message or latest.info
        if wordy or status.phase is not latest.phase:
            return None
        self.heard = heard
        return latest

    def was_answered(self, answer: Answer, heard: int | None = None) -> Answer:
        """The vendor's answer, or an end of our own, goes to Flyte. One that says nothing new is
        the last one, whose bytes the wire has kept."""
        latest, self.heard = self.latest, heard
        if latest is not None and (answer is latest or answer == latest):
            return latest
        answer = _BARE.get(answer.phase, answer) if answer == Answer(answer.phase) else answer
        self.phase = answer.phase
        self.latest = answer
        if answer.phase.terminal:
            # A job that was given up has no last word of its vendor's, and its series would go on
            # ageing in the metrics.
            self.failures.end()
            if answer.outputs is None or len(answer.outputs) <= SMALL:
                self.final = answer
            else:  # ask the vendor again rather than keep megabytes
                self.phase = Phase.RUNNING
                self.latest = None
        return answer

    def was_guessed(self, answer: Answer) -> Answer:
        """Nobody knows how the job is doing, and this answer goes to Flyte."""
        if self.phase is None and answer.phase is Phase.RUNNING:
            self.phase = Phase.RUNNING  # said once, it is not taken back
        return answer

    def first_end(self) -> bool:
        """Whether the job's end is to be recorded: once, however often it is asked about."""
        first = not self._ended
        self._ended = True
        return first

    # Cancels.

    def cancel_began(self, cancel: asyncio.Task[None]) -> None:
        self._cancel = cancel
        self.stop_accepted = False
        self.not_stopped = ""

    def tells_stopping(self) -> bool:
        """Whether to say that the job is still stopping: once."""
        first = not self._told_stopping
        self._told_stopping = True
        return first

    def refuses_cancel(self) -> bool:
        """Whether to refuse a cancel that no agent here can do: the first times."""
        self._refused += 1
        return self._refused <= REFUSALS


def _said(error: Exception) -> tuple[str, int]:
    # Hashed: it may be long, and is only told from others by it.
    return type(error).__name__, hash(text_of(error))
