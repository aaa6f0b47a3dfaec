"""The answer to "how is the job doing", and what else a job can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum

from flyteagents._redact import without_keys


class Phase(Enum):
    """Where a job stands. Values are the numbers of `flyteidl.core.TaskExecution.Phase`.

    Flyte never shows QUEUED, so waiting is INITIALIZING. ABORTED means that somebody stopped
    the job: the kernel turns it into a failure with a message, since Flyte would drop the message.
    """

    INITIALIZING = 6
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 5
    RETRYABLE_FAILED = 8
    ABORTED = 4

    @property
    def terminal(self) -> bool:
        return self not in (Phase.INITIALIZING, Phase.RUNNING)


@dataclass(frozen=True)
class Status:
    """How a job is doing.

    phase: None when the vendor's state is one the agent does not know; the kernel then keeps
        the last known phase.
    message: shown to the user: why the job failed, and why it waits while it does. Flyte 1 shows
        the text of INITIALIZING and none of RUNNING.
    code: the vendor's own error code, bare ("accessDenied"): the kernel puts the plugin's name
        before it and shows both before the message.
    outputs: output name to Python value (int, float, str, bool, datetime, timedelta, None, list,
        dict, `Blob`, `StructuredDataset`). None where the job itself wrote `outputs.pb`.
        They must be readable when SUCCEEDED is answered.
    info: what goes into `custom_info`: JSON values. Flyte 1 shows what the first answer of each
        phase says, merged: a key that is sent once is sent until the end (`Agent.later_info`).
        A key whose value is None counts as left out: Flyte would show some, and drop others.
    statistics: the vendor's numbers of a finished job (bytes billed, rows, milliseconds), which
        metrics sum up; of those named `peak_...` or `max_...` the highest is shown;
        they become attributes of the job's span. JSON scalars.
    started, ended: when the vendor ran the job, with time zone.
    cancelling: the vendor has accepted a cancel and the job has not stopped yet.
    """

    phase: Phase | None
    message: str | None = None
    code: str | None = None
    outputs: Mapping[str, object] | None = None
    info: Mapping[str, object] = field(default_factory=dict)
    statistics: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    started: datetime | None = None
    ended: datetime | None = None
    cancelling: bool = False


@dataclass(frozen=True)
class ErrorDocument:
    """Why a job's own code failed, as flytekit or flyte-sdk wrote it down
    (`flyteidl.core.ErrorDocument`).

    code: as "USER:ValueError". recoverable: whether another attempt may help; None where the
    document does not say. origin: whose fault it was, "user" or "system"; "" where it does not say.
    """

    code: str
    message: str
    recoverable: bool | None = None
    origin: str = ""


@dataclass(frozen=True)
class Link:
    """A link to the job's page at the vendor. `name` is what Flyte's console shows."""

    name: str
    uri: str


@dataclass(frozen=True)
class LogLine:
    """One line of a job's log. `system` is True for lines that are not the user's own output."""

    message: str
    timestamp: datetime | None = None
    system: bool = False


@dataclass(frozen=True)
class LogPage:
    """Some lines, and the token of the next page; an empty token ends the log."""

    lines: Sequence[LogLine]
    next: str = ""


def lines_without_keys(lines: Sequence[LogLine]) -> Sequence[LogLine]:
    """The lines, those masked that a private key goes over. Of a page that lies within one, nobody
    can tell: the lines before it must be among them."""
    said = [line.message for line in lines]
    masked = without_keys(said)
    if masked is said:  # there is no key, as in nearly all
        return lines
    pairs = zip(lines, masked, strict=True)
    return [replace(line, message=text) for line, text in pairs]
