"""Labels of jobs: whose they are, for INFORMATION_SCHEMA.JOBS and for ourselves."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from flyteagents import Task

FINGERPRINT = "flyte-fp"
TIMEOUT = "flyte-timeout"
LENGTH, COUNT = 63, 64


def job_labels(task: Task[Any], given: Mapping[str, str], task_timeout: bool) -> dict[str, str]:
    """The user's labels and ours, at most 64; only what we need ourselves wins over a user's."""
    who = task.identity
    needed = {FINGERPRINT: str(task.fingerprint)}
    if task_timeout:
        needed[TIMEOUT] = "task"
    telling = {
        "flyte-project": who.project,
        "flyte-domain": who.domain,
        "flyte-exec": who.execution,
        "flyte-node": who.node,
        "flyte-task": who.task,
        "flyte-attempt": str(who.attempt),
        "flyte-org": who.organization,
    }
    labels = {name: value for name, value in given.items() if name not in (FINGERPRINT, TIMEOUT)}
    room = COUNT - len(labels) - len(needed)
    ours = [(name, value) for name, value in telling.items() if value]
    labels.update({name: label_value(value) for name, value in ours[: max(room, 0)]})
    return {**labels, **needed}


def label_value(text: str) -> str:
    """`text` in the letters that a label may have; cut with a hash where it is too long.

    https://cloud.google.com/bigquery/docs/labels-intro#requirements
    """
    value = re.sub(r"[^a-z0-9_-]", "_", text.lower())
    if len(value) <= LENGTH:
        return value
    return f"{value[: LENGTH - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
