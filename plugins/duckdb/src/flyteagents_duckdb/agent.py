"""The agent for `duckdb_query`: SQL jobs as processes of their own.

No server owns a job. All of it is in the data directory, so any server that shares that can
poll, cancel and start it.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from importlib.metadata import version
from typing import ClassVar

from flyteagents import Agent, Call, LogPage, Status, Task
from flyteagents_duckdb.config import DuckDBConfig
from flyteagents_duckdb.janitor import sweep
from flyteagents_duckdb.job import DuckDBJob
from flyteagents_duckdb.jobs import Jobs
from flyteagents_duckdb.past_jobs import PastJob, past_jobs
from flyteagents_duckdb.settings import DuckDBSettings
from flyteagents_duckdb_job.directory import DataDirectory

log = logging.getLogger("flyteagents.duckdb")

HOUR = 3600.0
"""Seconds between two looks for what has been kept long enough."""


class DuckDBAgent(Agent[DuckDBSettings, DuckDBConfig, DuckDBJob]):
    """Runs SQL on DuckDB."""

    task_type = "duckdb_query"  # `duckdb` is the type of flytekit's container task
    name = "DuckDB"
    idempotency = "vendor"
    may_end_soon = True
    later_info: ClassVar = {"ahead": 0, "state": "unknown"}

    def __init__(self) -> None:
        self._id: str | None = None
        self._janitor: asyncio.Task[None] | None = None

    @cached_property
    def jobs(self) -> Jobs:
        """The jobs of the data directory; not before the settings are there."""
        return Jobs(self.settings)

    @property
    def data(self) -> DataDirectory:
        """Where the jobs are."""
        return self.jobs.data

    async def open(self) -> None:
        """Make the data directory, and begin to keep it tidy."""
        self._id = await asyncio.to_thread(self.jobs.prepare)
        self._janitor = asyncio.create_task(self._tidy())

    async def close(self) -> None:
        """Jobs go on."""
        if self._janitor is not None:
            self._janitor.cancel()
            with suppress(asyncio.CancelledError):
                await self._janitor

    async def check(self, call: Call) -> str:
        """The data directory can be written to."""
        await call.blocking(self.jobs.prepare)
        free = await call.blocking(lambda: shutil.disk_usage(self.data.root).free)
        return f"DuckDB {version('duckdb')}; {self.data.root} is writable, {free >> 20} MiB free"

    def handle(self, task: Task[DuckDBConfig]) -> DuckDBJob | None:
        """We name the jobs: by their keys."""
        # With the directory's id in it, a server on another one does not take the job for gone.
        return DuckDBJob(key=task.key.hex, data=self._id) if self._id else None

    def fingerprint(self, task: Task[DuckDBConfig]) -> Mapping[str, object]:
        """Threads and memory do not change a result."""
        return {"statement": task.statement, "inputs": task.inputs, **task.config.matters}

    async def create(self, task: Task[DuckDBConfig], call: Call) -> DuckDBJob:
        """Claim the job, or find it, and start it if it may run."""
        job = self.handle(task)
        assert job is not None  # opened
        await call.blocking(self.jobs.create, job, task)
        return job

    async def get(self, job: DuckDBJob, call: Call) -> Status:
        """What the job's directory says. A job that waits is started when there is room."""
        return await call.blocking(self.jobs.status, job, call.identity, call.declared)

    async def cancel(self, job: DuckDBJob, call: Call) -> None:
        """Leave a note that the job's process watches for."""
        await call.blocking(self.jobs.cancel, job, call.identity)

    async def logs(self, job: DuckDBJob, call: Call, token: str, lines: int) -> LogPage:
        """The job's log. While the job lives, the last page has a token for what follows."""
        return await call.blocking(self.jobs.log, job, call.identity, token, lines)

    async def past_jobs(self, call: Call, count: int) -> Sequence[PastJob]:
        """The newest jobs of all projects, for people at the data directory's machine: no server
        offers it."""
        return await call.blocking(past_jobs, self.data, count)

    async def _tidy(self) -> None:
        keep, keep_results = self.settings.keep, self.settings.keep_results
        while True:
            try:
                await asyncio.to_thread(sweep, self.data, keep, keep_results)
            # A volume may be away for a while, and nobody would see that this task has ended.
            except OSError as error:
                log.warning("duckdb_query: cannot tidy %s: %s", self.data.root, error)
            await asyncio.sleep(HOUR)
