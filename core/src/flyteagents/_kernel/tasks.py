"""From a request to the task that an agent sees."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from flyteagents._config_keys import LONG, do_nothing, key_names
from flyteagents._errors import InvalidTask
from flyteagents._kernel.copies import completed, copied
from flyteagents._kernel.keys import fingerprint_of, key_of, prefix_of_attempt
from flyteagents._kernel.requests import CreateRequest
from flyteagents._kernel.served import ServedAgent
from flyteagents._kernel.settings import SHORT
from flyteagents._task import Key, Task

# Flyte 2 reads these out of `custom` itself; they are not the agent's.
RESERVED = frozenset({"secrets", "configs", "task_type", "taskType"})
TOLD = 5
"""Problems of a config that are told, and as many unknown keys: there may be thousands of each."""


def build_task(served: ServedAgent, request: CreateRequest, key: Key) -> Task[Any]:
    """Check and assemble the task. Raises InvalidTask."""
    task = request.read()
    given = task.config
    if not RESERVED.isdisjoint(given):
        given = {name: value for name, value in given.items() if name not in RESERVED}
    model = served.offered.models.config
    known = key_names(model)
    unread = sorted(given.keys() - known)
    try:
        config = model.model_validate(given)
    except ValidationError as error:
        problems = "; ".join(map(_told, error.errors(include_url=False)[:TOLD]))
        if model.model_config.get("extra", "ignore") == "ignore":
            # A field that is missing may be there under another name.
            problems = "; ".join([problems, *do_nothing(unread[:TOLD], known)])
        raise InvalidTask(f"the task's config is not valid: {problems}") from None
    completed(task, config=config, unread=unread, key=key)
    # A run has no job to compare with.
    work = {} if served.is_sync else served.agent.fingerprint(task)
    return completed(task, fingerprint=fingerprint_of(work))


def _told(problem: ErrorDetails) -> str:
    name = ".".join(str(part)[:LONG] for part in problem["loc"])
    value = problem["input"]
    # A config may hold a secret, and the text is shown to users. None is short, or stands where a
    # number, a time or one of a few words belongs.
    harmless = problem["type"].endswith("_parsing") or problem["type"] == "literal_error"
    shown = f"={value!r}" if harmless and isinstance(value, str) and len(value) <= SHORT else ""
    why = problem["msg"].removeprefix("Value error, ")
    return f"{name or 'config'}{shown}: {why}"


def as_attempt(task: Task[Any], cluster: str, number: int) -> Task[Any]:
    """The same work as it was asked for in an earlier attempt: its key and its prefix."""
    prefix = prefix_of_attempt(task.output_prefix, number)
    return copied(task, key=key_of(cluster, task.type, prefix), output_prefix=prefix)
