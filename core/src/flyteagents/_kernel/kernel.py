"""What every part of the life cycle needs: the server's parts, and its words for errors."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from flyteagents._errors import AgentError
from flyteagents._kernel.answers import Refused
from flyteagents._kernel.codec import Codec
from flyteagents._kernel.detached import Detached
from flyteagents._kernel.served import ServedAgent
from flyteagents._kernel.settings import KernelSettings
from flyteagents._kernel.soft_state import SoftState
from flyteagents._kernel.verdicts import OPERATIONS, Verdict, verdict
from flyteagents._redact import excerpt
from flyteagents._telemetry.providers import Telemetry
from flyteagents._tenants import fits_any

log = logging.getLogger("flyteagents")
ERROR_LIMIT = 4 * 1024
"""Bytes of an error's text: a vendor wrote it, and it is remembered with the job."""
TOLD_AGAIN = 600.0
"""Seconds between log lines for the same bug of an agent's that each poll of each job meets."""
ERROR_ID = re.compile(r"error id ([0-9a-f]{8})\b")
"""In the user's text for a bug (`Kernel.tell`)."""


@dataclass
class Kernel:
    """The server's parts. `agents` are those that are served, by task type. `private`: it serves
    one client alone, whose jobs are cancelled when that has died."""

    settings: KernelSettings
    agents: Mapping[str, ServedAgent]
    codec: Codec
    telemetry: Telemetry
    soft: SoftState = field(default_factory=SoftState)
    detached: Detached = field(default_factory=Detached)
    private: bool = False
    _told: dict[tuple[str, ...], float] = field(default_factory=dict, init=False)

    def served(self, task_type: str) -> ServedAgent:
        """The agent of a task type. Raises Refused with NOT_FOUND."""
        served = self.agents.get(task_type)
        if served is None:
            there = ", ".join(sorted(self.agents)) or "none"
            raise Refused(
                "NOT_FOUND", f"no agent here serves task type {task_type[:80]!r}; served: {there}"
            )
        return served

    def allowed(self, project: str, domain: str) -> bool:
        """Whether FLYTEAGENTS_ALLOW lets this project and domain in."""
        return fits_any(self.settings.allow, project, domain)

    def label(self, task_type: str) -> str:
        """The task type for metrics: it comes from outside, so only served ones have series."""
        return task_type if task_type in self.agents else "unknown"

    def tell(self, served: ServedAgent, operation: str, error: BaseException) -> str:
        """The user's text for an error. A bug's is in the log, and the text has the id for it."""
        # The table calls some of our own errors bugs too, as JobNotFound out of `create`.
        bug = operation in OPERATIONS and verdict(operation, error) is Verdict.BUG
        if isinstance(error, AgentError) and not bug:
            text = served.words(error.message or type(error).__name__, error.code)
            return excerpt(text, ERROR_LIMIT)
        # The user gets the type alone: what the text of a foreign exception holds, nobody knows.
        error_id = secrets.token_hex(4)
        log.error(
            "%s: %s raised %s",
            served.task_type,
            operation,
            type(error).__name__,
            exc_info=error,
            extra={"error_id": error_id, "agent": served.task_type},
        )
        return (
            f"the agent for {served.task_type} failed with {type(error).__name__} in {operation}; "
            f"error id {error_id} finds the server's log line"
        )

    def tell_seldom(self, served: ServedAgent, operation: str, error: BaseException) -> None:
        """Log a bug that each poll meets, and that fails none of them."""
        kind = (served.task_type, operation, type(error).__name__)
        now = time.monotonic()
        if now - self._told.get(kind, -TOLD_AGAIN) >= TOLD_AGAIN:
            self._told[kind] = now
            self.tell(served, operation, error)
