"""What a replica remembers to answer better. Losing it breaks no promise."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from flyteagents._kernel.envelope import Envelope, Parked
from flyteagents._kernel.requests import Answer, JobRequest
from flyteagents._status import Phase

V = TypeVar("V")
SMALL = 8 * 1024
"""Bytes of outputs that are remembered, or ride in an envelope."""


@dataclass
class Series:
    """An unbroken series of failed polls."""

    count: int = 0
    since: float = 0.0

    def add(self) -> None:
        if self.count == 0:
            self.since = time.monotonic()
        self.count += 1

    def end(self) -> None:
        self.count = 0

    @property
    def age(self) -> float:
        """Seconds since the series began."""
        return time.monotonic() - self.since


@dataclass(eq=False)
class Seen:
    """One job as this replica has seen it."""

    phase: Phase | None = None
    latest: Answer | None = None
    final: Answer | None = None
    failures: Series = field(default_factory=Series)
    refusals: Series = field(default_factory=Series)
    poll: asyncio.Task[Answer] | None = None
    cancel: asyncio.Task[None] | None = None
    accepted: bool = False
    told_unavailable: bool = False
    refused: int = 0

    @property
    def busy(self) -> bool:
        return any(task is not None and not task.done() for task in (self.poll, self.cancel))


class Bounded(Generic[V]):
    """The values used last, at most `size`; those that `keep` speaks for stay."""

    def __init__(self, size: int, keep: Callable[[V], bool] = lambda _: False) -> None:
        self._size = size
        self._keep = keep
        self._values: OrderedDict[str, V] = OrderedDict()

    def get(self, name: str) -> V | None:
        value = self._values.get(name)
        if value is not None:
            self._values.move_to_end(name)
        return value

    def put(self, name: str, value: V) -> V:
        self._values[name] = value
        self._values.move_to_end(name)
        for _ in range(min(8, len(self._values) - self._size)):
            oldest, old = self._values.popitem(last=False)
            if self._keep(old):
                self._values[oldest] = old
        return value

    def pop(self, name: str) -> V | None:
        return self._values.pop(name, None)


class SoftState:
    """All that one replica remembers: jobs that were asked about, creates that were answered,
    and the ends of creates that were answered before they were known."""

    def __init__(self, size: int = 20_000) -> None:
        self._salt = secrets.token_bytes(32)
        self.jobs: Bounded[Seen] = Bounded(size, keep=lambda seen: seen.busy)
        self.created: Bounded[Envelope] = Bounded(size // 2)
        self.verdicts: Bounded[Parked] = Bounded(size // 4)
        self.cancelling: set[str] = set()
        self.failing: WeakKeyDictionary[Seen, str] = WeakKeyDictionary()

    def oldest_failures(self) -> dict[tuple[str, ...], float]:
        """The age in seconds of each task type's oldest unbroken series of failed polls."""
        ages: dict[tuple[str, ...], float] = {}
        for seen, task_type in list(self.failing.items()):
            ages[task_type,] = max(seen.failures.age, ages.get((task_type,), 0.0))
        return ages

    def seen(self, request: JobRequest) -> Seen:
        """The job's memory. Jobs asked for with other credentials do not share it."""
        hashed = hashlib.blake2b(request.meta, key=self._salt, digest_size=16)
        for name, secret in sorted(request.connection.secrets.items()):
            hashed.update(json.dumps([name, secret]).encode())
        name = hashed.hexdigest()
        return self.jobs.get(name) or self.jobs.put(name, Seen())
