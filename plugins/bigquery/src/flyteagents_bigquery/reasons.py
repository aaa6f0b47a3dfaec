"""What BigQuery's error reasons mean, in the error of a request and in that of a job.

https://cloud.google.com/bigquery/docs/error-messages
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from flyteagents import (
    AgentError,
    Forbidden,
    InvalidTask,
    JobConflict,
    JobNotFound,
    Reply,
    Throttled,
    Unavailable,
)
from flyteagents.kit.answers import json_object

_TOO_FAST = frozenset(
    {"jobRateLimitExceeded", "quotaExceeded", "rateLimitExceeded", "resourcesExceeded"}
)
_PASSING = {
    "jobRateLimitExceeded",
    "rateLimitExceeded",
    "backendError",
    "badGateway",
    "internalError",
    "jobBackendError",
    "jobInternalError",
    "resourceInUse",
    "tableUnavailable",
}
# Some quotas are rates or queues, and free again in a while; others are a day's, or what somebody
# may spend: https://cloud.google.com/bigquery/docs/troubleshoot-quotas
_RATE = re.compile(
    r"concurrent|too many|\brates?\b|imports per|updates to this table"
    r"|\bqueued\b|\bpending\b|per (?:\d+ )?(?:seconds?|minutes?)\b|per(?:second|minute)",
    re.I,
)
_SPENT = re.compile(r"custom quota|\bper day\b|perday|\bdaily\b", re.I)
# At most 20 statements wait for a table. Other resources that are exceeded are memory and the like,
# which the same query exceeds again.
_WAITING_DML = re.compile(r"DML statements outstanding", re.I)
# Told as invalidQuery, though the query is fine: a limit of rate, and two writers that met.
_MOMENTARY = re.compile(
    r"exceeded rate limits|could not serialize access|aborted due to concurrent", re.I
)

_NO_JOB = re.compile(r"Already Exists: (?!Job\b)[A-Z]\w+ ")


def passes(reason: str, message: str) -> bool:
    """Whether the same work may succeed later. A reason that is not known does not."""
    if reason == "quotaExceeded":
        return bool(_RATE.search(message)) and not _SPENT.search(message)
    if reason == "resourcesExceeded":
        return bool(_WAITING_DML.search(message))
    if reason in ("invalid", "invalidQuery"):
        return bool(_MOMENTARY.search(message))
    return reason in _PASSING


def names_something_else(message: str) -> bool:
    """Whether what exists already is no job: a table that the statement would create, say, which
    a dry run tells at once."""
    return bool(_NO_JOB.match(message))


def explain(reply: Reply) -> AgentError | None:
    """The error that an error reply stands for; None where BigQuery did not write it."""
    reason, message = words(reply)
    if reply.status == 404 and not reason:
        # Whoever stands before it: that a job is gone is for BigQuery alone to say.
        return Unavailable("a 404 came that is not of BigQuery's own words")
    if not reason or reply.status in (401, 408, 425, 429):
        return None  # the status says it all
    kind: type[AgentError]
    # The reason before the status: BigQuery tells rates and full queues as 403, or as 400.
    if passes(reason, message):
        kind = Throttled if reason in _TOO_FAST else Unavailable
    elif reply.status >= 500:
        kind = InvalidTask if reply.status == 501 else Unavailable
    else:
        # Other conflicts than that something exists are of two requests that met.
        conflict = JobConflict if reason == "duplicate" else Unavailable
        kinds = {403: Forbidden, 404: JobNotFound, 409: conflict}
        kind = kinds.get(reply.status, InvalidTask)
    return kind(message or f"BigQuery answered {reply.status}", code=reason)


def words(reply: Reply) -> tuple[str, str]:
    """The reason and the message of an error reply; no reason where it has another shape."""
    error = json_object(reply).get("error")
    if not isinstance(error, Mapping):
        return "", ""
    listed = error.get("errors")
    first = listed[0] if isinstance(listed, list) and listed else None
    first = first if isinstance(first, Mapping) else {}
    message = error.get("message") or first.get("message") or ""
    return str(first.get("reason") or ""), str(message)
