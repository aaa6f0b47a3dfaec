"""What a vendor's reply means."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TypeVar

from pydantic import BaseModel, ValidationError

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

M = TypeVar("M", bound=BaseModel)
TEXT_LIMIT = 400
WAIT_LIMIT = 3600.0
_ERRORS: Mapping[int, type[AgentError]] = {
    401: Unauthenticated, 403: Forbidden, 404: JobNotFound, 408: Unavailable, 409: JobConflict,
    410: JobNotFound, 425: Unavailable,
}  # fmt: skip


def error_of(reply: Reply, host: str) -> AgentError:
    """The error that a reply's status stands for, with the vendor's own words."""
    code, words = _words(reply)
    text = f"{host} answered {reply.status}" + (f": {words}" if words else "")
    if reply.status == 429:
        return Throttled(text, retry_after=retry_after(reply.headers), code=code)
    # A redirect is no answer either: following it could take credentials elsewhere.
    client = 400 <= reply.status < 500
    return _ERRORS.get(reply.status, InvalidTask if client else Unavailable)(text, code=code)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a Retry-After header asks for, as a number or as a date."""
    text = headers.get("retry-after", "").strip()
    try:
        if text[:1].isdigit():
            seconds = float(text)
        else:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), WAIT_LIMIT)


def fit(into: type[M], reply: Reply) -> M:
    """The body as a model. Fields that the model does not have are ignored, also where the model
    forbids them, since vendors add fields. Raises Unavailable: values may be secret, so it names
    fields only."""
    try:
        return into.model_validate_json(reply.body, extra="ignore")
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        if problems[0]["type"] == "json_invalid":
            what = "is not JSON"
        else:
            fields = [".".join(map(str, problem["loc"])) or "all of it" for problem in problems[:5]]
            what = f"does not fit {into.__name__}: {', '.join(fields)[:TEXT_LIMIT]}"
        raise Unavailable(f"the vendor's reply ({reply.status}) {what}") from None


def _words(reply: Reply) -> tuple[str | None, str]:
    """The vendor's error code and message, from the shapes of JSON that are common."""
    text = reply.body[:65536].decode("utf-8", "replace").strip()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        plain = (
            text and text[0] not in "<{[" and "html" not in reply.headers.get("content-type", "")
        )
        return None, _cut(text.splitlines()[0]) if plain else ""
    if not isinstance(found, dict):
        return None, ""
    inner = found.get("error")
    inner = inner if isinstance(inner, dict) else {}
    code = _first(
        inner.get("status"), inner.get("code"), found.get("error_code"), found.get("code")
    )
    words = _first(
        inner.get("message"), found.get("message"), found.get("error_description"),
        found.get("detail"), found.get("error"),
    )  # fmt: skip
    return code[:64] or None, _cut(words)


def _first(*candidates: object) -> str:
    return next((text for text in candidates if isinstance(text, str) and text), "")


def _cut(text: str) -> str:
    text = "".join(c for c in text if c.isprintable() or c == "\n").strip()
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"
