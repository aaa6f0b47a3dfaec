"""The keys of a task's config, and what becomes of one that has no effect."""

from __future__ import annotations

from flyteagents import Task
from flyteagents.kit.config_keys import do_nothing, key_names, without_effect
from quarry_agent.config import QuarryConfig
from quarry_agent.request import FINGERPRINT


def warnings(task: Task[QuarryConfig]) -> list[str]:
    """A sentence for each key that nobody knows, and for a tag whose name the agent needs."""
    taken = {FINGERPRINT: "the agent needs its name"} if FINGERPRINT in task.config.tags else {}
    return [
        *do_nothing(task.unread, key_names(QuarryConfig)),
        *without_effect(taken, where="tags"),
    ]
