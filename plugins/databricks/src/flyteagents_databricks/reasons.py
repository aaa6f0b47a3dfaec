"""What Databricks' error replies mean.

https://docs.databricks.com/api/workspace/introduction, and databricks.sdk.errors
"""

from __future__ import annotations

import re

from flyteagents import (
    AgentError,
    Forbidden,
    InvalidTask,
    JobConflict,
    JobNotFound,
    Reply,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from flyteagents.kit.answers import json_object

NO_SUCH_API = "ENDPOINT_NOT_FOUND"
_TOO_FAST = frozenset({"REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"})
_PASSING = frozenset(
    {
        "ABORTED",  # two requests met, with a 409 (databricks.sdk.errors)
        "CANCELLED",
        "COULD_NOT_ACQUIRE_LOCK",
        "DEADLINE_EXCEEDED",
        "INTERNAL_ERROR",
        "TEMPORARILY_UNAVAILABLE",
    }
)
# Told with all kinds of statuses (databricks.sdk._base_client).
_MOMENTARY = re.compile(
    r"UnknownWorkerEnvironmentException|does not have any associated worker environments"
    r"|There is no worker environment with id|Unknown worker environment|ClusterNotReadyException"
    r"|RPC token bucket limit|try again later",
    re.I,
)
# An expired token is a 403, and so is a lack of permission (databricks.sdk has no better way).
_TOKEN = re.compile(
    r"(invalid|expired|revoked|malformed)\b.{0,40}\btoken|token.{0,40}\b(is )?(invalid|expired)",
    re.I,
)
_NO_RUN = re.compile(r"\bRun:? .{0,80}(does not exist|doesn't exist)", re.I)
_DELETED = re.compile(r"idempotency.?token.{0,200}deleted|deleted.{0,200}idempotency.?token", re.I)


def explain(reply: Reply) -> AgentError | None:
    """The error that an error reply stands for; None where its status says it all."""
    code, message = words(reply)
    text = message or f"Databricks answered {reply.status}"
    shown = code if code and not code.isdigit() else None
    if reply.status == 403:
        # A gateway answers for an expired token with a page.
        if not code or _TOKEN.search(message):
            return Unauthenticated(f"Databricks does not accept the token: {text}", code=shown)
        return Forbidden(text, code=shown)
    if reply.status == 404 and not code:
        # Whoever stands before it: that a run is gone is for Databricks alone to say.
        return Unavailable("a 404 came that is not of Databricks' own words")
    if not code or reply.status in (401, 429):
        return None
    return _kind(reply.status, code, message)(text, code=shown)


def _kind(status: int, code: str, message: str) -> type[AgentError]:
    if code in _TOO_FAST:
        return Throttled
    if code in _PASSING or _MOMENTARY.search(message):
        return Unavailable
    # By its words: for a run that is not there Databricks answers INVALID_PARAMETER_VALUE.
    if _NO_RUN.search(message):
        return JobNotFound
    if _DELETED.search(message):
        return JobConflict  # the run of this attempt; its token stays reserved
    if status >= 500 and status != 501:
        return Unavailable
    return JobNotFound if status == 404 else InvalidTask


def words(reply: Reply) -> tuple[str, str]:
    """The code and the message of an error reply; no code where Databricks did not write it."""
    error = json_object(reply)
    return str(error.get("error_code") or ""), str(error.get("message") or "")
