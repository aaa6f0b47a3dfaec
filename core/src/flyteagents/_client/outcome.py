"""What becomes of a task, and who is told while it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from flyteagents._client.attempt import Attempt
from flyteagents._client.rpc import Rpc
from flyteagents._status import Link, Phase


@dataclass
class Try:
    """One attempt, as the service answered it.

    phase: the last one; None where there was none, or nobody could be asked any more.
    last: the last good answer about the job.
    """

    attempt: Attempt
    began: float
    phase: Phase | None = None
    message: str = ""
    seconds: float = 0.0
    meta: bytes = b""
    last: Rpc | None = None


@dataclass
class Outcome:
    """What became of a task, as its user sees it.

    phase: SUCCEEDED, FAILED or ABORTED; None for a task that hangs for ever, because Flyte has
        given up polling it (`stuck`).
    outputs: name to value. tries: the attempts that were begun.
    history: every RPC made for the task. phases: what GetTask answered, in order, for all attempts.
    links, info: what the console shows: the links of the first answer that says where the job
        stands; the custom info of each phase's first answer, merged, which Flyte 2 drops.
    orphaned: no DeleteTask was accepted for a job that should have been stopped.
    """

    phase: Phase | None = None
    message: str = ""
    outputs: Mapping[str, object] = field(default_factory=dict)
    tries: list[Try] = field(default_factory=list)
    history: list[Rpc] = field(default_factory=list)
    links: Sequence[Link] = ()
    info: Mapping[str, object] = field(default_factory=dict)
    stuck: bool = False
    orphaned: bool = False

    def merge(self, info: Mapping[str, object]) -> None:
        """An event with this custom info
        (flyteadmin/pkg/repositories/transformers/task_execution.go, mergeCustom)."""
        # The first one is stored as it is, nulls and all.
        self.info = _patched(self.info, info) if self.info else info

    @property
    def attempts(self) -> int:
        return len(self.tries)

    @property
    def prefix(self) -> str:
        """The last attempt's output prefix."""
        return self.tries[-1].attempt.output_prefix if self.tries else ""

    @property
    def phases(self) -> list[Phase | None]:
        return [rpc.phase for rpc in self.calls("GetTask") if rpc.ok]

    @property
    def failures(self) -> list[Rpc]:
        """The RPCs that failed."""
        return [rpc for rpc in self.history if not rpc.ok]

    def calls(self, method: str) -> list[Rpc]:
        return [rpc for rpc in self.history if rpc.method == method]


def _patched(there: object, patch: Mapping[str, object]) -> dict[str, object]:
    """A JSON merge patch (RFC 7386), in which null takes a key out."""
    merged = dict(there) if isinstance(there, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            merged[name] = _patched(merged.get(name), value)
        else:
            merged[name] = value
    return merged


class Watch(Protocol):
    """Is told what goes on."""

    def attempt(self, number: int, of: int) -> None: ...
    def answer(self, rpc: Rpc, seconds: float) -> None: ...
    def note(self, text: str) -> None: ...


class Unwatched:
    """Nobody looks."""

    def attempt(self, number: int, of: int) -> None: ...
    def answer(self, rpc: Rpc, seconds: float) -> None: ...
    def note(self, text: str) -> None: ...


def local_path(uri: str) -> Path | None:
    """The path on this machine, None for a URI of somewhere else."""
    if "://" not in uri:
        return Path(uri)
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None
