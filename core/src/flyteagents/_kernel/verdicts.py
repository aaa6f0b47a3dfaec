"""The error table: what each error of an agent's becomes in each kind of call."""

from __future__ import annotations

from enum import Enum, auto

from flyteagents._errors import (
    AgentError,
    Forbidden,
    InvalidTask,
    JobConflict,
    JobNotFound,
    Unauthenticated,
    Unsupported,
    VendorError,
)
from flyteagents._status import Phase


class Verdict(Enum):
    """What the kernel does with an error."""

    FAIL = auto()  # FAILED, now or parked
    RETRY = auto()  # RETRYABLE_FAILED, now or parked
    HICCUP = auto()  # the last known phase, for as long as patience lasts
    REFUSED = auto()  # the same, with the shorter patience for credentials
    MISSING = auto()  # the vendor has no such job: depends on its age
    LATER = auto()  # tried again within the budget, then as the call's rule says
    DONE = auto()  # OK
    NOTED = auto()  # OK, an error in the log, and a counter
    BUG = auto()  # INTERNAL with an error id


_V = Verdict
OPERATIONS = ("create", "get", "cancel", "run")
# The first row that fits decides; the last one is for what is no AgentError.
TABLE: dict[type[Exception], tuple[Verdict, ...]] = {
    #                 create    get         cancel      run
    InvalidTask:     (_V.FAIL,  _V.FAIL,    _V.DONE,    _V.FAIL),
    Unsupported:     (_V.FAIL,  _V.FAIL,    _V.DONE,    _V.FAIL),
    JobConflict:     (_V.FAIL,  _V.FAIL,    _V.DONE,    _V.FAIL),
    Forbidden:       (_V.FAIL,  _V.REFUSED, _V.NOTED,   _V.FAIL),
    Unauthenticated: (_V.RETRY, _V.REFUSED, _V.NOTED,   _V.FAIL),
    JobNotFound:     (_V.BUG,   _V.MISSING, _V.MISSING, _V.FAIL),
    VendorError:     (_V.LATER, _V.HICCUP,  _V.LATER,   _V.RETRY),
    Exception:       (_V.BUG,   _V.HICCUP,  _V.BUG,     _V.FAIL),
}  # fmt: skip


def verdict(operation: str, error: BaseException) -> Verdict:
    """What `error` becomes in `operation`, one of OPERATIONS."""
    # asyncio.CancelledError is no Exception, and so in no row: it has the last one.
    kind = next((kind for kind in TABLE if isinstance(error, kind)), Exception)
    return TABLE[kind][OPERATIONS.index(operation)]


def phase_of(what: Verdict) -> Phase:
    """The phase that FAIL and RETRY stand for."""
    return Phase.RETRYABLE_FAILED if what is Verdict.RETRY else Phase.FAILED


def cause(error: BaseException) -> str:
    """The error's kind, for metrics and logs."""
    # An agent's code may raise any class: each would be one more series of a metric.
    return type(error).__name__ if isinstance(error, AgentError) else "bug"
