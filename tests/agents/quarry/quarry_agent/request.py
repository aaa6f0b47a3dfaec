"""The body of a submit."""

from __future__ import annotations

from flyteagents import InvalidTask, Task
from flyteagents.kit.limits import time_limit
from flyteagents.kit.tags import TagRules, flyte_ids
from flyteagents.kit.values import json_text
from quarry_agent.config import QuarryConfig

FINGERPRINT = "flyte_fp"
TAGS = TagRules(count=10, length=40, letters="A-Za-z0-9_.-")


def submit_body(task: Task[QuarryConfig]) -> dict[str, object]:
    """Raises InvalidTask for a task without a statement, or with too many tags."""
    if not task.statement.strip():
        raise InvalidTask("the task has no SQL statement")
    tags = TAGS.fit(
        ours=flyte_ids(task.identity, prefix="flyte_"),
        given=task.config.tags,
        needed={FINGERPRINT: str(task.fingerprint)},
    )
    limit = time_limit(task.timeout)
    return {
        "key": task.key.hex,
        "statement": task.statement,
        "parameters": {name: json_text(value, str) for name, value in task.inputs.items()},
        "tags": tags,
        "prefix": task.output_prefix,
        "seconds": None if limit is None else limit.total_seconds(),
    }
