"""What a vendor's error reply means, and what it says."""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime
from typing import Any

from flyteagents._call import Reply
from flyteagents._errors import (
    AgentError,
    Forbidden,
    InvalidTask,
    JobConflict,
    JobNotFound,
    Throttled,
    Unauthenticated,
    Unavailable,
)

_BY_STATUS: dict[int, type[AgentError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: JobNotFound,
    408: Unavailable,
    409: JobConflict,
    410: JobNotFound,
    425: Unavailable,
}
LONGEST_RETRY_AFTER = 3600.0


def error_of(reply: Reply) -> AgentError:
    """The error for a reply by its HTTP status."""
    text = f"the vendor answered {reply.status}: {message_of(reply)}"
    if reply.status == 429:
        return Throttled(text, retry_after=retry_after(reply))
    if reply.status >= 500 or reply.status < 400:
        return Unavailable(text)
    return _BY_STATUS.get(reply.status, InvalidTask)(text)


def message_of(reply: Reply) -> str:
    """The vendor's own words, out of the shapes that JSON APIs use; never HTML."""
    try:
        found = _dig(json.loads(reply.body))
    except (ValueError, RecursionError):
        line = reply.text.strip().split("\n", 1)[0]
        found = None if line.startswith("<") else line
    return found[:400] if found else "no message"


def retry_after(reply: Reply) -> float | None:
    """Seconds that the vendor asks to wait, None where it does not say."""
    value = reply.headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


def _dig(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return _dig(value[0]) if value else None
    if isinstance(value, dict):
        for name in ("error_description", "message", "error", "detail", "errors", "title"):
            if value.get(name) and (found := _dig(value[name])):
                return found
    return None
