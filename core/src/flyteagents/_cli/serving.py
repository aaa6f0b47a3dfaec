"""Whether a server is there, and serves a task type."""

from __future__ import annotations

from flyteagents._cli.screen import did_you_mean
from flyteagents._client.caller import Caller
from flyteagents._client.exit_codes import CONFIG_ERROR, UNAVAILABLE

# What gRPC says of a call that reached no server, and what to do about it.
_ADVICE = {
    "CERTIFICATE_VERIFY_FAILED": "nobody whom this machine trusts has signed the server's "
    "certificate; name its authority by --ca",
    "Hostname Verification": "the server's certificate is for another name than --endpoint's",
    "WRONG_VERSION_NUMBER": "the server speaks no TLS; leave --tls out",
    "Socket closed": "check --endpoint, and whether the server wants --tls",
}


class NotServed(Exception):
    """There is no server, or none for this task type. `code` is what to exit with."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


async def serves(caller: Caller, task_type: str) -> bool:
    """Whether the agent for this task type is a synchronous one. Raises NotServed."""
    listed = await caller.list_agents()
    if not listed.ok:
        told = (text for words, text in _ADVICE.items() if words in listed.message)
        advice = next(told, "check --endpoint, and that the server runs")
        raise NotServed(UNAVAILABLE, f"the server cannot be reached: {listed.message}; {advice}")
    if task_type not in listed.agents:
        there = ", ".join(sorted(listed.agents)) or "none"
        raise NotServed(
            CONFIG_ERROR,
            f"no agent there serves task type {task_type!r}"
            f"{did_you_mean(task_type, listed.agents) or '.'} There are: {there}. Install the "
            "plugin for it, or see `flyteagents list`",
        )
    return listed.agents[task_type]
