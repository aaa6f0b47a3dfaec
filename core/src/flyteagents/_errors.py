"""What an agent raises to say what went wrong.

AgentError
├── InvalidTask        the task can never work as it is written
├── Unauthenticated    the vendor does not accept our credentials
├── Forbidden          the credentials are good, but do not allow this
├── JobNotFound        the vendor has no such job
├── JobConflict        the key's job does other work than the task asks for
├── Unsupported        this agent does not do that
└── VendorError        the vendor failed in a way that may pass
    ├── Throttled      it asks for fewer requests
    └── Unavailable    it cannot answer now, or cannot be reached

What each becomes in each call is one table: `flyteagents._kernel.verdicts`.
"""

from __future__ import annotations


class AgentError(Exception):
    """Base of all errors with a meaning to the kernel.

    The text is shown to the user: one or two sentences that say what was wrong and what to do.
    Never put a secret in it. `code` is the vendor's own error code, bare ("accessDenied"): the
    user sees `[<PLUGIN>_<code>]` before the text.
    """

    # For a subclass whose `__init__` does not call this one.
    message: str = ""
    code: str | None = None

    def __init__(self, message: str = "", *, code: str | None = None) -> None:
        super().__init__(message)
        # Authors put caught exceptions and statuses here, and no poll may fail for that.
        self.message = str(message or type(self).__name__)
        self.code = None if code is None else str(code)

    def __str__(self) -> str:
        return f"[{self.code}] {self.message}" if self.code else self.message


class InvalidTask(AgentError):
    """The task can never work as written: bad configuration, a rejected statement."""


class Unauthenticated(AgentError):
    """The vendor does not accept the credentials, also not freshly read ones (HTTP 401)."""


class Forbidden(AgentError):
    """The credentials are accepted and do not allow this (HTTP 403)."""


class JobNotFound(AgentError):
    """The vendor does not know the job (HTTP 404)."""


class JobConflict(AgentError):
    """A job with this key exists and does other work than the task asks for (HTTP 409)."""


class Unsupported(AgentError):
    """The agent does not offer what was asked, for example a log."""


class VendorError(AgentError):
    """The vendor failed; the same request may work later."""


class Throttled(VendorError):
    """The vendor asks for fewer requests (HTTP 429). `retry_after` is in seconds; what is no number
    from 0 on counts as not said."""

    retry_after: float | None = None

    def __init__(
        self, message: str = "", *, retry_after: float | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, code=code)
        if isinstance(retry_after, int | float) and retry_after >= 0:
            self.retry_after = retry_after


class Unavailable(VendorError):
    """The vendor cannot answer now or cannot be reached (HTTP 5xx, timeouts, DNS)."""


def text_of(error: BaseException) -> str:
    """Any exception's text. Where its class fails to make one, its kind."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 # foreign code
        return type(error).__name__
