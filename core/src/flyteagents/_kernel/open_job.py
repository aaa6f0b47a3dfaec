"""A job that somebody asks about, with all that is known of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from flyteagents._job import Job
from flyteagents._kernel.envelope import Envelope
from flyteagents._kernel.host import AgentHost, KernelCall
from flyteagents._kernel.keys import prefix_of_attempt
from flyteagents._kernel.requests import NO_CONNECTION, Connection
from flyteagents._kernel.soft_state import Seen
from flyteagents._task import Identity
from flyteagents._types import Type
from flyteagents._vendor.budget import Budget


@dataclass(frozen=True)
class OpenJob:
    """`output_prefix` is that of the attempt that asks."""

    host: AgentHost
    job: Job
    envelope: Envelope
    output_prefix: str = ""
    connection: Connection = NO_CONNECTION
    seen: Seen = field(default_factory=Seen)

    @property
    def age(self) -> float:
        """Seconds since CreateTask."""
        return time.time() - self.envelope.created

    def call(
        self, operation: str, budget: Budget, declared: Mapping[str, Type] | None = None
    ) -> KernelCall:
        prefix, wrote = self.output_prefix, self.envelope.wrote
        return KernelCall(
            self.host, operation, identity_of(self.envelope), budget, self.job,
            prefix if wrote < 0 else prefix_of_attempt(prefix, wrote),
            declared or {}, self.connection,
        )  # fmt: skip


def identity_of(envelope: Envelope) -> Identity:
    """Who asked, as far as the envelope keeps it."""
    return Identity(
        project=envelope.project, domain=envelope.domain, execution=envelope.execution,
        node=envelope.node, attempt=envelope.attempt,
    )  # fmt: skip


def envelope_of(
    who: Identity, key: str, task_type: str, trace: str = "", wrote: int = -1
) -> Envelope:
    """A new envelope, with what it keeps of who asks."""
    return Envelope(
        key, task_type, round(time.time(), 3), trace=trace, wrote=wrote, attempt=who.attempt,
        project=who.project, domain=who.domain, execution=who.execution, node=who.node,
    )  # fmt: skip
