"""The first poll of a job waits a moment for its end.

Flyte polls a job as soon as it is created, and then after its resync interval, 30 s as shipped
(flytestdlib cache/in_memory_auto_refresh.go, `syncOnCreate`). A query that takes half a second is
so found running, and its end is seen half a minute late. Held for a moment, the first poll is the
only one that it needs.
"""

from __future__ import annotations

import asyncio
import time

from flyteagents import Call, Status
from flyteagents_duckdb.job import DuckDBJob
from flyteagents_duckdb.jobs import Jobs

HELD = 3
"""Polls that are held at once. Flyte polls all jobs of all agents with ten workers
(flyteplugins .../webapi/agent/config.go:18-31), and must have some left when many jobs begin."""

STEP = 0.05
"""Seconds between two looks at the directory."""


class FirstLook:
    """Holds the first polls of jobs. `seconds` count from a job's creation.

    held: how many are held now.
    """

    def __init__(self, jobs: Jobs, seconds: float) -> None:
        self._jobs = jobs
        self._seconds = seconds
        self.held = 0

    async def status(self, job: DuckDBJob, call: Call) -> Status:
        """How the job is doing: at once, or as soon as a job that is new has ended."""
        status = await self._look(job, call)
        # Half of the call's time at most: the look after it needs some as well.
        left = min(await call.blocking(self._left, job), call.remaining / 2)
        # A later poll finds an older job; who waits for a cancel, or for others, has another wish.
        if left <= 0 or call.operation != "get" or self.held >= HELD or not _soon(status):
            return status

        self.held += 1
        try:
            await self._ended_within(left, job, call)
        finally:
            self.held -= 1
        return await self._look(job, call)

    async def _ended_within(self, seconds: float, job: DuckDBJob, call: Call) -> None:
        end = time.monotonic() + seconds
        # The process that ends the job is no child of this server: only its directory tells.
        while time.monotonic() < end and not await call.blocking(self._has_ended, job):  # noqa: ASYNC110
            await asyncio.sleep(STEP)

    async def _look(self, job: DuckDBJob, call: Call) -> Status:
        return await call.blocking(self._jobs.status, job, call.identity, call.declared)

    def _left(self, job: DuckDBJob) -> float:
        description = self._jobs.data.job(job.key).description()
        if description is None:
            return 0.0
        created: int = description["created"]
        return created / 1e9 + self._seconds - time.time()

    def _has_ended(self, job: DuckDBJob) -> bool:
        return self._jobs.data.job(job.key).ended() is not None


def _soon(status: Status) -> bool:
    """Whether the job may end soon: it has not, nobody stops it, and nobody is before it."""
    over = status.phase is not None and status.phase.terminal
    return not over and not status.cancelling and not status.info.get("ahead")
