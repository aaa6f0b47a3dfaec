"""What a vendor's reply means."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from flyteagents import _errors
from flyteagents._http import Reply
from flyteagents._redact import excerpt

TEXT_LIMIT = 400
"""Bytes of the vendor's words in an error."""
WAIT_LIMIT = 3600.0
_ERRORS: Mapping[int, type[_errors.AgentError]] = {
    401: _errors.Unauthenticated,
    403: _errors.Forbidden,
    404: _errors.JobNotFound,
    # Only a proxy asks for this; the vendor and the task have no part in it.
    407: _errors.Unavailable,
    # 408 and 425 ask for another try; as any other 4xx they would be the task's fault.
    408: _errors.Unavailable,
    409: _errors.JobConflict,
    410: _errors.JobNotFound,
    425: _errors.Unavailable,
}


def error_of(reply: Reply, host: str) -> _errors.AgentError:
    """The error that a reply's status stands for, with the vendor's own words."""
    code, words = _words(reply)
    who = f"the proxy before {host}" if reply.status == 407 else host
    text = f"{who} answered {reply.status}" + (f": {words}" if words else "")
    if reply.status == 429:
        return _errors.Throttled(text, retry_after=retry_after(reply.headers), code=code)
    # A redirect is no answer either: following it could take credentials elsewhere.
    other = _errors.InvalidTask if 400 <= reply.status < 500 else _errors.Unavailable
    return _ERRORS.get(reply.status, other)(text, code=code)


def is_page(reply: Reply) -> bool:
    """Whether it is a page of HTML: no API's words, but those of whatever stands before it."""
    start = reply.body.lstrip()[:9].lower()
    html = start.startswith((b"<html", b"<!doctype"))
    return html or "html" in reply.headers.get("content-type", "")


def in_json(reply: Reply) -> bool:
    """Whether its body has the form in which APIs tell errors."""
    return reply.body.lstrip()[:1] in (b"{", b"[")


def turned_away(reply: Reply) -> bool:
    """Whether the request surely had no effect. Of a 503 only an API's own word counts: a gateway
    also sends one, as text or HTML, when it loses an answer to what the vendor has carried out
    (Envoy's "upstream connect error or disconnect/reset before headers")."""
    if reply.status == 503:
        return "retry-after" in reply.headers or in_json(reply)
    return reply.status in (407, 429)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a Retry-After header asks for, as a number or as a date."""
    text = headers.get("retry-after", "").strip()
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        # float() would take "nan" and "-inf" as well.
        if text[:1].isdigit():
            seconds = float(text)
        else:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        return min(max(seconds, 0.0), WAIT_LIMIT)
    return None


def _words(reply: Reply) -> tuple[str | None, str]:
    """The vendor's error code and message, from the shapes of JSON that are common."""
    text = reply.body[:65536].decode("utf-8", "replace").strip()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        # An empty body counts as a page too: '' is in every text, and has no first line.
        page = text[:1] in "<{[" or "html" in reply.headers.get("content-type", "")
        return None, "" if page else _cut(text.splitlines()[0])
    inner = found.get("error") if isinstance(found, dict) else None
    code = _text(inner, "status", "code") or _text(found, "error_code", "code")
    words = _text(inner, "message") or _text(
        found, "message", "error_description", "detail", "error"
    )
    return code[:64] or None, _cut(words)


def _text(found: object, *names: str) -> str:
    """The first of these fields that is a text."""
    values = map(found.get, names) if isinstance(found, dict) else ()
    return next((value for value in values if isinstance(value, str) and value), "")


def _cut(text: str) -> str:
    return excerpt("".join(c for c in text if c.isprintable() or c == "\n").strip(), TEXT_LIMIT)
