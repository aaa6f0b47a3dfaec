"""Whether a server is there, and serves a task type."""

from __future__ import annotations

from flyteagents._cli.screen import did_you_mean
from flyteagents._client.caller import Caller
from flyteagents._client.exit_codes import CONFIG_ERROR, UNAVAILABLE


class NotServed(Exception):
    """There is no server, or none for this task type. `code` is what to exit with."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


async def serves(caller: Caller, task_type: str) -> bool:
    """Whether the agent for this task type is a synchronous one. Raises NotServed."""
    listed = await caller.list_agents()
    if not listed.ok:
        text = f"the server cannot be reached: {listed.message}; check --endpoint, --tls"
        raise NotServed(UNAVAILABLE, text)
    if task_type not in listed.agents:
        there = ", ".join(sorted(listed.agents)) or "none"
        raise NotServed(
            CONFIG_ERROR,
            f"no agent there serves task type {task_type!r}"
            f"{did_you_mean(task_type, listed.agents)}; served: {there}. Install the plugin for "
            "it, or see `flyteagents list`",
        )
    return listed.agents[task_type]
