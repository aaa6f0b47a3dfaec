"""What Flyte asks and what it is answered, the same for both generations and free of protobuf."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flyteagents._status import Link, Phase
from flyteagents._task import Identity, Task
from flyteagents._types import Type

ANSWER_LIMIT = 4 * 1024 * 1024 - 64 * 1024
"""Bytes of outputs that fit an answer: callers refuse messages over 4 MiB."""


@dataclass(frozen=True)
class Connection:
    """What Flyte 2 sends along: secrets by name, and configs."""

    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    configs: Mapping[str, str] = field(default_factory=dict)


NO_CONNECTION = Connection()


@dataclass(frozen=True)
class CreateRequest:
    """`read` decodes the task, whose config is a plain mapping yet and which has no key; it raises
    InvalidTask when the task makes no sense."""

    task_type: str
    generation: int
    output_prefix: str
    identity: Identity
    read: Callable[[], Task[Any]]
    connection: Connection = NO_CONNECTION


@dataclass(frozen=True)
class JobRequest:
    """GetTask, DeleteTask, GetTaskLogs or GetTaskMetrics for the job in `meta`."""

    task_type: str
    meta: bytes
    output_prefix: str = ""
    connection: Connection = NO_CONNECTION


@dataclass(frozen=True)
class Answer:
    """How the task stands. `outputs` is a serialized LiteralMap; None: the job wrote them."""

    phase: Phase
    message: str = ""
    outputs: bytes | None = None
    links: Sequence[Link] = ()
    info: Mapping[str, object] = field(default_factory=dict)


class Refused(Exception):
    """The call gets a gRPC error; `code` is the name of its status code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Codec:
    """What the wire has to know: outputs to a serialized LiteralMap, by the declared types or,
    where these are None, by what the values suggest (raises InvalidTask for what does not fit);
    and declared types to a short text and back (raises ValueError)."""

    outputs: Callable[[Mapping[str, object], Mapping[str, Type] | None], bytes]
    dump_types: Callable[[Mapping[str, Type]], str]
    load_types: Callable[[str], Mapping[str, Type]]


class Deadline:
    """The time a caller gives, and what of it we may use."""

    MOST = 8.0

    def __init__(self, remaining: float | None) -> None:
        self.remaining = remaining
        if remaining is None:
            budget = self.MOST
        else:
            budget = min(remaining - max(0.3, remaining / 10), self.MOST)
        self.until = time.monotonic() + max(budget, 0.0)

    @property
    def left(self) -> float:
        """Seconds that are left to answer in."""
        return max(self.until - time.monotonic(), 0.0)
