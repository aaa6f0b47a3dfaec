"""The error table: what each error of an agent's becomes in each kind of call."""

from __future__ import annotations

from enum import Enum

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


class Verdict(Enum):
    """What the kernel does with an error."""

    FAIL = "fail"  # FAILED, now or parked
    RETRY = "retry"  # RETRYABLE_FAILED, now or parked
    HICCUP = "hiccup"  # the last known phase, for as long as patience lasts
    REFUSED = "refused"  # the same, with the shorter patience for credentials
    MISSING = "missing"  # the vendor has no such job: depends on its age
    LATER = "later"  # tried again within the budget, then as the call's rule says
    DONE = "done"  # OK
    NOTED = "noted"  # OK, an error in the log, and a counter
    BUG = "bug"  # INTERNAL with an error id


_OTHER = Exception
_KINDS: tuple[type[Exception], ...] = (
    InvalidTask, Unsupported, JobConflict, Forbidden, Unauthenticated, JobNotFound, VendorError,
    _OTHER,
)  # fmt: skip

TABLE: dict[str, dict[type[Exception], Verdict]] = {
    "create": {
        InvalidTask: Verdict.FAIL,
        Unsupported: Verdict.FAIL,
        JobConflict: Verdict.FAIL,
        Forbidden: Verdict.FAIL,
        Unauthenticated: Verdict.RETRY,
        JobNotFound: Verdict.BUG,
        VendorError: Verdict.LATER,
        _OTHER: Verdict.BUG,
    },
    "get": {
        InvalidTask: Verdict.FAIL,
        Unsupported: Verdict.FAIL,
        JobConflict: Verdict.FAIL,
        Forbidden: Verdict.REFUSED,
        Unauthenticated: Verdict.REFUSED,
        JobNotFound: Verdict.MISSING,
        VendorError: Verdict.HICCUP,
        _OTHER: Verdict.HICCUP,
    },
    "cancel": {
        InvalidTask: Verdict.DONE,
        Unsupported: Verdict.DONE,
        JobConflict: Verdict.DONE,
        Forbidden: Verdict.NOTED,
        Unauthenticated: Verdict.NOTED,
        JobNotFound: Verdict.MISSING,
        VendorError: Verdict.LATER,
        _OTHER: Verdict.BUG,
    },
    "run": {
        InvalidTask: Verdict.FAIL,
        Unsupported: Verdict.FAIL,
        JobConflict: Verdict.FAIL,
        Forbidden: Verdict.FAIL,
        Unauthenticated: Verdict.FAIL,
        JobNotFound: Verdict.FAIL,
        VendorError: Verdict.RETRY,
        _OTHER: Verdict.FAIL,
    },
}


def verdict(operation: str, error: BaseException) -> Verdict:
    """What `error` becomes in `operation` ("create", "get", "cancel" or "run")."""
    kind = next((kind for kind in _KINDS if isinstance(error, kind)), _OTHER)
    return TABLE[operation][kind]


def cause(error: BaseException) -> str:
    """The error's kind, for metrics and logs."""
    return type(error).__name__ if isinstance(error, AgentError) else "bug"
