"""What every part of the life cycle needs."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flyteagents._errors import AgentError, Unavailable
from flyteagents._kernel.detached import Detached
from flyteagents._kernel.host import AgentHost
from flyteagents._kernel.requests import Codec, Refused
from flyteagents._kernel.settings import KernelSettings
from flyteagents._kernel.soft_state import SoftState
from flyteagents._kernel.verdicts import OPERATIONS, Verdict, verdict
from flyteagents._redact import redact
from flyteagents._telemetry.providers import Telemetry
from flyteagents._tenants import fits_tenant
from flyteagents._vendor.budget import within

T = TypeVar("T")
log = logging.getLogger("flyteagents")


@dataclass
class Runtime:
    """The server's parts. `hosts` has the agents by task type."""

    settings: KernelSettings
    hosts: Mapping[str, AgentHost]
    codec: Codec
    telemetry: Telemetry
    soft: SoftState = field(default_factory=SoftState)
    detached: Detached = field(default_factory=Detached)

    def host(self, task_type: str) -> AgentHost:
        """The agent of a task type. Raises Refused with NOT_FOUND."""
        host = self.hosts.get(task_type)
        if host is None:
            there = ", ".join(sorted(self.hosts)) or "none"
            raise Refused(
                "NOT_FOUND", f"no agent here serves task type {task_type[:80]!r}; served: {there}"
            )
        return host

    def allowed(self, project: str, domain: str) -> bool:
        """Whether FLYTEAGENTS_ALLOW lets this project and domain in."""
        return any(fits_tenant(pattern, project, domain) for pattern in self.settings.allow)

    def label(self, task_type: str) -> str:
        """The task type for metrics: it comes from outside, so only served ones have series."""
        return task_type if task_type in self.hosts else "unknown"

    async def operate(
        self,
        host: AgentHost,
        operation: str,
        method: Callable[..., Awaitable[T]],
        *args: Any,
        limit: float = 60.0,
    ) -> T:
        """Run one method of an agent in its lane, with a span. Raises Unavailable when it takes
        more than `limit` seconds: an agent that never answers must not hold its place for ever."""
        with self.telemetry.tracing.operation(host.task_type, operation):
            try:
                return await within(limit, host.run(method, *args))
            except asyncio.TimeoutError:
                raise Unavailable(
                    f"{host.task_type}: {operation} took over {limit:.0f} s"
                ) from None

    def tell(self, host: AgentHost, operation: str, error: BaseException) -> str:
        """The user's text for an error. A bug's is in the log, and the text has the id for it."""
        bug = operation in OPERATIONS and verdict(operation, error) is Verdict.BUG
        if isinstance(error, AgentError) and not bug:
            return redact(str(error))
        error_id = secrets.token_hex(4)
        log.error(
            "%s: %s raised %s", host.task_type, operation, type(error).__name__,
            exc_info=error, extra={"error_id": error_id, "agent": host.task_type},
        )  # fmt: skip
        return (
            f"the agent for {host.task_type} failed with {type(error).__name__} in {operation}; "
            f"error id {error_id} finds the server's log line"
        )
