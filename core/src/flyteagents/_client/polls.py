"""The polls of one job, as the cache of Flyte's webapi plugin makes them.

A cache with ten workers looks at every job once in each resync interval, counts what fails over the
job's whole life, and gives the job up for ever when that is too much (cache.go in
pluginmachinery/internal/webapi, in_memory_auto_refresh.go in flytestdlib/cache).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from flyteagents._client.attempt import Generation
from flyteagents._client.rpc import Rpc
from flyteagents._status import Phase

ROUNDS = 11
"""Failed rounds, DeleteTasks among them, after which Flyte 1 aborts the whole workflow."""
QUIET = (Phase.SUCCEEDED, Phase.FAILED, Phase.ABORTED)
"""Phases after which nothing is polled."""


@dataclass(frozen=True)
class Rules:
    """How a control plane behaves. Times in seconds.

    resync: between two polls of a job. reevaluate: between two rounds that read what polls saw.
    retry_pause: before the next attempt. delete_pause: between two DeleteTasks.
    forgiven: GetTask errors in a task's whole life (`maxSystemFailures`).
    patience: without an answer to GetTask, after which it is given up.
    deletes: failed DeleteTasks after which it is given up; None for never.
    collect_after: after a task's end, until its record is collected, which deletes the job; None
        where that is not done.
    remote_outputs: outputs in a store that cannot be read from here are taken to be there.
    """

    resync: float
    reevaluate: float
    retry_pause: float
    delete_pause: float
    forgiven: float = 5
    patience: float = math.inf
    deletes: int | None = ROUNDS
    collect_after: float | None = None
    remote_outputs: bool = False


class Polls:
    """The cache's item of one attempt: polled, as soon as it is there, at each resync."""

    def __init__(
        self,
        *,
        poll: Callable[[], Coroutine[Any, Any, Rpc]],
        rules: Rules,
        generation: Generation,
        workers: asyncio.Semaphore,
        alive: Callable[[], bool],
        seen: Callable[[Rpc], None],
    ) -> None:
        self.latest: Rpc | None = None
        self.error = ""
        self.calls: set[asyncio.Task[None]] = set()
        self._poll, self._rules, self._generation = poll, rules, generation
        self._workers, self._alive, self._seen = workers, alive, seen
        self._failures = 0
        self._answered = time.monotonic()
        self._resyncing = asyncio.create_task(self._resync())

    @property
    def gave_up(self) -> bool:
        silent = time.monotonic() - self._answered > self._rules.patience
        return self._failures > self._rules.forgiven or silent or not self._alive()

    def stop(self) -> None:
        """No poll follows; those under way are in `calls`."""
        self._resyncing.cancel()

    async def _resync(self) -> None:
        while not self.gave_up and not self._ended():
            # An item counts as done when a worker takes it, so slow polls overlap.
            call = asyncio.create_task(self._one())
            self.calls.add(call)
            call.add_done_callback(self.calls.discard)
            await asyncio.sleep(self._rules.resync)

    async def _one(self) -> None:
        # A slow job holds a worker that the jobs of all other agents wait for, as in Flyte.
        async with self._workers:
            if self._ended() or self.gave_up:
                return
            counted = self._failures  # of overlapping polls the last one's count stays
            rpc = await self._poll()
            if rpc.ok:
                # The count stays: Flyte counts over the task's whole life (PM/cache.go:99-110).
                self.latest, self._answered = rpc, time.monotonic()
            else:
                self._failures, self.error = counted + 1, rpc.error
            self._seen(rpc)

    def _ended(self) -> bool:
        phase = self.latest.phase if self.latest else None
        # Flyte 1 goes on after RETRYABLE_FAILED until the item is dropped.
        return phase in QUIET or (phase is Phase.RETRYABLE_FAILED and self._generation == 2)
