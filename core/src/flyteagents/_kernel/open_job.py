"""A job that somebody asks about, with all that is known of it."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from flyteagents._job import Job
from flyteagents._kernel.call import KernelCall
from flyteagents._kernel.copies import copied
from flyteagents._kernel.envelope import Envelope
from flyteagents._kernel.keys import prefix_of_attempt
from flyteagents._kernel.requests import NO_CONNECTION, Connection
from flyteagents._kernel.seen import Seen
from flyteagents._kernel.served import ServedAgent
from flyteagents._task import Fingerprint, Key
from flyteagents._types import Type
from flyteagents._vendor.budget import Budget

YOUNG = 180.0
"""Seconds in which a job that was submitted may still become visible at its vendor: a submit may
take 60 s on the wire, and an agent's look-up lags behind its vendor's writes."""


@dataclass(eq=False)
class OpenJob:
    """`output_prefix` is that of the attempt that asks. It is kept with a poll that comes again."""

    served: ServedAgent
    job: Job
    envelope: Envelope
    output_prefix: str = ""
    connection: Connection = NO_CONNECTION
    seen: Seen = field(default_factory=Seen)

    @property
    def young(self) -> bool:
        """Whether the job may be under way to its vendor still."""
        # Not the monotonic clock: another replica may have made the envelope.
        return time.time() - self.envelope.created < YOUNG

    @functools.cached_property
    def declared(self) -> Mapping[str, Type] | None:
        """The outputs that the task declares; None where nobody knows."""
        codec = self.served.codec
        return codec.declared(self.envelope.declared) if codec else None

    def call(self, operation: str, budget: Budget, seen: Seen | None = None) -> KernelCall:
        """A call about the job. seen: its own, in a poll, which may say that nothing is new."""
        # Where the agent runs by now: it may have been moved since the last one.
        place = self.served.place
        return copied(self._call, operation=operation, budget=budget, place=place, seen=seen)

    @functools.cached_property
    def _call(self) -> KernelCall:
        """What all calls about the job say of it and of its attempt. The prefix is that of the
        attempt the job was made for."""
        envelope, prefix = self.envelope, self.output_prefix
        wrote = envelope.wrote
        return KernelCall(
            self.served,
            operation="",
            identity=envelope.identity,
            budget=Budget(0),
            of=self.job,
            task_type=envelope.task_type,
            # The vendor knows a job that was taken over by the key it was made with.
            key=Key(envelope.made_with or envelope.key),
            fingerprint=Fingerprint(envelope.fingerprint) if envelope.fingerprint else None,
            output_prefix=prefix if wrote < 0 else prefix_of_attempt(prefix, wrote),
            declared=self.declared or {},
            connection=self.connection,
            adopted=envelope.adopted,
        )
