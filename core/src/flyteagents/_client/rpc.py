"""One call to a server and its answer, as Flyte reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flyteagents._kernel.answers import CANCELLED
from flyteagents._status import Link, Phase
from flyteagents._wire.literals import decode_literals
from flyteagents._wire.structs import from_struct

_PHASES = {phase.value: phase for phase in Phase}
# QUEUED and WAITING_FOR_RESOURCES: ours never says them, and Flyte shows them as waiting.
_PHASES |= {1: Phase.INITIALIZING, 7: Phase.INITIALIZING}


@dataclass(frozen=True)
class Rpc:
    """One call and its answer. It never raises: `code` is the name of the gRPC status.

    began: `time.monotonic()`. message: why the call failed. number: the phase as it was answered,
    also where no `Phase` has it. may_run_on: why a job may run on although its DeleteTask is OK.
    """

    method: str
    endpoint: str
    attempt: int
    code: str
    seconds: float
    began: float
    message: str = ""
    meta: bytes = b""
    may_run_on: str = ""
    resource: Any = field(default=None, repr=False)
    agents: Mapping[str, bool] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.code == "OK"

    @property
    def error(self) -> str:
        """Why the call failed, in a line."""
        return f"{self.method}: {self.code}: {self.message}"

    @property
    def number(self) -> int:
        return 0 if self.resource is None else int(self.resource.phase)

    @property
    def phase(self) -> Phase | None:
        """The phase that was answered; None for failed calls and phases that are not ours."""
        return _PHASES.get(self.number)

    @property
    def phase_name(self) -> str:
        """The phase as people read it."""
        name = self.phase.name if self.phase is not None else f"phase {self.number}"
        return f"{name} (cancelled)" if self.cancelled else name

    @property
    def cancelled(self) -> bool:
        """Whether the job has ended because somebody stopped it: to Flyte that is a failure."""
        ended = self.phase is not None and self.phase.terminal
        return ended and self.info.get(CANCELLED) is True

    @property
    def text(self) -> str:
        """What the agent says about the job."""
        return "" if self.resource is None else str(self.resource.message)

    @property
    def links(self) -> Sequence[Link]:
        found = [] if self.resource is None else self.resource.log_links
        return [Link(link.name, link.uri) for link in found]

    @property
    def info(self) -> Mapping[str, Any]:
        """Custom info, sorted: a message's map has no order."""
        if self.resource is None:
            return {}
        return dict(sorted(from_struct(self.resource.custom_info).items()))

    @property
    def outputs(self) -> Mapping[str, object] | None:
        """The outputs as Python values; None where the answer has none."""
        if self.resource is None or not self.resource.HasField("outputs"):
            return None
        return decode_literals(self.resource.outputs, {})
