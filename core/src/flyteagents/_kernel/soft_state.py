"""What a replica remembers to answer better. Losing it breaks no promise.

Here is how much is remembered, and under which names; what is remembered of one job is `Seen`.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from flyteagents._kernel.absence import FOR_EVER, IN_VAIN, Absence
from flyteagents._kernel.envelope import Envelope, Parked
from flyteagents._kernel.requests import JobRequest
from flyteagents._kernel.seen import Seen
from flyteagents._status import Status

V = TypeVar("V")
REQUESTS = 1500
"""Polls that are not read again when they come again. One takes 4 kB, so not all of them; to read
one, check its job and find its memory takes 30 microseconds."""
ROOM = 4 * 1024
"""Bytes of texts that one value may have in the room of one. With it a replica's memory is bounded
in sum: 20,000 jobs with ordinary texts, or fewer whose errors fill pages."""
LOOKED_AT = 8
"""Busy values that one `put` looks at for some to forget. With all of them busy it would otherwise
go through the whole memory each time."""


class Bounded(Generic[V]):
    """The values used last, at most `size` of those whose texts take up to ROOM; one with more
    takes the room of several. Those that `keep` speaks for stay, and so does the newest.

    texts: bytes of a value's texts, which users and vendors may make long."""

    def __init__(
        self,
        size: int,
        keep: Callable[[V], bool] = lambda _: False,
        texts: Callable[[V], int] = lambda _: 0,
    ) -> None:
        self._size = size
        self._keep = keep
        self._texts = texts
        self._values: OrderedDict[str | bytes, V] = OrderedDict()
        # Rooms beyond the first one, of those few that take more, and in all.
        self._more: dict[str | bytes, int] = {}
        self._further = 0

    def get(self, name: str | bytes) -> V | None:
        value = self._values.get(name)
        if value is not None:
            self._values.move_to_end(name)
        return value

    def put(self, name: str | bytes, value: V) -> V:
        self.pop(name)
        self._values[name] = value
        if more := self._texts(value) // ROOM:
            self._takes(name, more)
        kept = 0
        while len(self._values) + self._further > self._size and kept < LOOKED_AT:
            oldest, old = self._values.popitem(last=False)
            if oldest is name:  # the newest, and more than all the others
                self._values[oldest] = old
                break
            if self._keep(old):
                self._values[oldest] = old
                kept += 1
            elif self._more:
                self._takes(oldest, 0)
        return value

    def grew(self, name: str | bytes) -> None:
        """The texts of its value have changed."""
        value = self._values.get(name)
        if value is not None and self._texts(value) // ROOM != self._more.get(name, 0):
            self.put(name, value)

    def pop(self, name: str | bytes) -> V | None:
        if self._more:
            self._takes(name, 0)
        return self._values.pop(name, None)

    def _takes(self, name: str | bytes, more: int) -> None:
        self._further += more - self._more.pop(name, 0)
        if more:
            self._more[name] = more

    def values(self) -> list[V]:
        # A copy: the metrics' thread goes through it while the loop changes the memory.
        return list(self._values.values())


class SoftState:
    """All that one replica remembers.

    requests: polls as they were read, by their bytes.
    created: creates that have a job, by key: what it does, as a fingerprint, and the answer. Not as
    an object, which takes ten times as much, and memory that is cold whenever it is used again.
    late_ends: the ends of those that were answered before their vendor had. troubles: why these
    wait, for the user.
    settled: by the key of an attempt, the number of the first one before it that a later one has to
    look for. absences: earlier attempts' jobs that were not there, by key.
    stopping: the names of jobs that are being stopped here, and by how many cancels: the memory of
    a job may go, or be another one for other credentials, while its cancel goes on.
    """

    def __init__(self, size: int = 20_000) -> None:
        # Names are made of credentials too: without it, one could be guessed from its hash.
        self._salt = secrets.token_bytes(32)
        self._jobs: Bounded[Seen] = Bounded(size, keep=lambda seen: seen.busy, texts=Seen.texts)
        self.requests: Bounded[JobRequest] = Bounded(REQUESTS, texts=JobRequest.texts)
        # However long: without it, an agent whose idempotency is `none` would make another job.
        self.created: Bounded[tuple[str, bytes]] = Bounded(size // 4, texts=lambda it: len(it[1]))
        self.late_ends: Bounded[Parked] = Bounded(size // 4, texts=lambda end: len(end.message))
        self.troubles: Bounded[str] = Bounded(size // 4, texts=len)
        self.settled: Bounded[int] = Bounded(size // 4)
        self.absences: Bounded[Absence] = Bounded(size // 4)
        self.stopping: Counter[str] = Counter()

    def seen(self, request: JobRequest, task_type: str) -> Seen:
        """The job's memory. Jobs asked for with other credentials do not share it."""
        if not request.name:
            request.name = self._name(request)
        name = request.name
        return self._jobs.get(name) or self._jobs.put(name, Seen(task_type, name))

    def grew(self, seen: Seen) -> None:
        """What is remembered of the job has other texts now."""
        self._jobs.grew(seen.name)

    def saw_end(self, envelope: Envelope, status: Status) -> None:
        """The vendor says that the job has ended. What came to nothing is not asked for again, by
        the key of the attempt that made it: some vendors would run it again."""
        if status.phase in IN_VAIN:
            self.absences.put(envelope.made_with or envelope.key, FOR_EVER)

    def _name(self, request: JobRequest) -> str:
        hashed = hashlib.blake2b(request.meta, key=self._salt, digest_size=16)
        for sent in (request.connection.secrets, request.connection.configs):
            # Sorted: the order of a protobuf map is not defined.
            hashed.update(json.dumps(sorted(sent.items())).encode())
        return hashed.hexdigest()

    def oldest_failures(self) -> dict[tuple[str, ...], float]:
        """The age in seconds of each task type's oldest unbroken series of failed polls. Called
        from another thread."""
        ages: dict[tuple[str, ...], float] = {}
        for seen in self._jobs.values():
            if seen.failures.count:
                ages[seen.task_type,] = max(seen.failures.age, ages.get((seen.task_type,), 0.0))
        return ages
