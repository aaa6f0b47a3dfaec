"""The agent for `duckdb_query`: SQL jobs as processes of their own.

No server owns a job. All of it is in the data directory, so any server that shares that can
poll, cancel and start it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from flyteagents import (
    Agent,
    Call,
    Identity,
    InvalidTask,
    JobConflict,
    JobNotFound,
    LogPage,
    Phase,
    Status,
    Task,
    Type,
    Unavailable,
)
from flyteagents_duckdb.config import DuckDBConfig
from flyteagents_duckdb.janitor import sweep
from flyteagents_duckdb.job import DuckDBJob
from flyteagents_duckdb.logs import read_page
from flyteagents_duckdb.processes import Processes
from flyteagents_duckdb.request import describe
from flyteagents_duckdb.settings import DuckDBSettings
from flyteagents_duckdb.states import ended_status, running_status, waiting_status
from flyteagents_duckdb_job.access import Refused, open_directories
from flyteagents_duckdb_job.directory import DataDirectory, JobDirectory
from flyteagents_duckdb_job.queue import enqueue, waiting

log = logging.getLogger("flyteagents.duckdb")
HOUR = 3600.0
REMEMBERED = 1000


class DuckDBAgent(Agent[DuckDBSettings, DuckDBConfig, DuckDBJob]):
    """Runs SQL on DuckDB."""

    task_type = "duckdb_query"  # `duckdb` is the type of flytekit's container task
    name = "DuckDB"
    idempotency = "vendor"

    def __init__(self) -> None:
        self._id: str | None = None
        self._processes = Processes()
        self._refused: OrderedDict[str, str] = OrderedDict()
        self._janitor: asyncio.Task[None] | None = None

    @property
    def data(self) -> DataDirectory:
        """Where the jobs are."""
        return DataDirectory(self.settings.data_dir)

    async def open(self) -> None:
        """Make the data directory, and begin to keep it tidy."""
        self._id = await asyncio.to_thread(self._prepare)
        self._janitor = asyncio.create_task(self._tidy())

    async def close(self) -> None:
        """Jobs go on."""
        if self._janitor is not None:
            self._janitor.cancel()
            with suppress(asyncio.CancelledError):
                await self._janitor

    async def check(self, call: Call) -> str:
        """The data directory can be written to."""
        await call.blocking(self._prepare)
        free = await call.blocking(lambda: shutil.disk_usage(self.data.root).free)
        return f"DuckDB {version('duckdb')}; {self.data.root} is writable, {free >> 20} MiB free"

    def handle(self, task: Task[DuckDBConfig]) -> DuckDBJob | None:
        """We name the jobs: by their keys."""
        return DuckDBJob(key=task.key.hex, data=self._id) if self._id else None

    def fingerprint(self, task: Task[DuckDBConfig]) -> Mapping[str, object]:
        """Threads and memory do not change a result."""
        return {"statement": task.statement, "inputs": task.inputs, **task.config.matters}

    async def create(self, task: Task[DuckDBConfig], call: Call) -> DuckDBJob:
        """Claim the job, or find it, and start it if it may run."""
        job = self.handle(task)
        assert job is not None  # opened
        return await call.blocking(self._create, job, task)

    async def get(self, job: DuckDBJob, call: Call) -> Status:
        """What the job's directory says. A job that waits is started when there is room."""
        return await call.blocking(self._status, job, call.identity, call.declared)

    async def cancel(self, job: DuckDBJob, call: Call) -> None:
        """Leave a note that the job's process watches for."""
        await call.blocking(self._cancel, job, call.identity)

    async def logs(self, job: DuckDBJob, call: Call, token: str, lines: int) -> LogPage:
        """The job's log. While the job lives, the last page has a token for what follows."""
        return await call.blocking(self._log, job, call.identity, token, lines)

    def _prepare(self) -> str:
        try:
            found = self.data.prepare()
            open_directories([p for p in self.settings.open_prefixes if "{" not in p], self.data)
        except OSError as error:
            raise OSError(
                f"the data directory {self.data.root} cannot be used: {error.strerror or error}; "
                "FLYTEAGENTS_DUCKDB_DATA_DIR names another one"
            ) from error
        except Refused as error:
            raise OSError(str(error)) from None
        return found

    def _create(self, job: DuckDBJob, task: Task[DuckDBConfig]) -> DuckDBJob:
        description = describe(task, self.settings)
        self._check_directory(job)
        there = self.data.job(job.key).description()
        if there is None:
            self._claim(job, description)
            there = self.data.job(job.key).description()
        if there is None:
            raise Unavailable(f"the job {job.key} cannot be read back from {self.data.root}")
        if not task.fingerprint.matches(there["fingerprint"]):
            raise JobConflict("a job with this key does other work; give the task another prefix")
        self._start(self.data.job(job.key), there)
        return job

    def _claim(self, job: DuckDBJob, description: dict[str, Any]) -> None:
        try:
            free = shutil.disk_usage(self.data.root).free
            if free < self.settings.min_free:
                raise OSError(errno.ENOSPC, f"{free >> 20} MiB are free, and a job needs "
                              f"{self.settings.min_free >> 20} MiB")  # fmt: skip
            self.data.claim_job(job.key, description)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            what = "no space left in" if full else "cannot write to"
            text = f"{what} the data directory {self.data.root}: {error.strerror}"
            self._refused[job.key] = text
            while len(self._refused) > REMEMBERED:
                self._refused.popitem(last=False)
            raise Unavailable(text, code="DiskFull" if full else None) from error
        self._refused.pop(job.key, None)

    def _status(self, named: DuckDBJob, who: Identity, declared: Mapping[str, Type]) -> Status:
        self._check_directory(named)
        job = self.data.job(named.key)
        description = job.description()
        if description is None and named.key in self._refused:
            return Status(Phase.RETRYABLE_FAILED, self._refused[named.key])
        description = self._mine(named, description, who)
        if job.ended() is not None:
            return ended_status(job, declared)
        if job.started() is None and not (job.cancel_asked and self._withdraw(job)):
            self._start(job, description)
            if job.started() is None:
                return waiting_status(job, waiting(self.data), self.settings.max_jobs)
        now = self.data.now()
        if job.ended() is None and job.alive(now):
            return running_status(job, now)
        if job.ended() is None:  # it may have ended, and let go of its lock, since we looked
            if job.cancel_asked:
                job.end("ABORTED", "the job was cancelled")
            else:
                job.end("RETRYABLE_FAILED", _GONE)
        return ended_status(job, declared)

    def _cancel(self, named: DuckDBJob, who: Identity) -> None:
        self._check_directory(named)
        job = self.data.job(named.key)
        self._mine(named, job.description(), who)
        if job.ended() is None:
            job.ask_cancel()
            if job.started() is None:
                self._withdraw(job)

    def _withdraw(self, job: JobDirectory) -> bool:
        """End a job that has not started, so that nobody starts it."""
        if not job.start("cancel"):
            return False
        job.end("ABORTED", "the job was cancelled before it started")
        return True

    def _log(self, named: DuckDBJob, who: Identity, token: str, lines: int) -> LogPage:
        self._check_directory(named)
        job = self.data.job(named.key)
        self._mine(named, job.description(), who)
        if not (token.isdecimal() or token == ""):
            raise InvalidTask(f"{token[:40]!r} is not a token of this log")
        return read_page(job, int(token or 0), lines)

    def _start(self, job: JobDirectory, description: Mapping[str, Any]) -> None:
        if job.started() is None and job.ended() is None:
            try:
                enqueue(self.data, job.key, description["created"])
                self._processes.start_waiting(self.data, self.settings.max_jobs)
            except OSError as error:  # it is claimed: a later poll starts it
                log.warning("duckdb_query: job %s is not started yet: %s", job.key, error)

    def _check_directory(self, job: DuckDBJob) -> None:
        found = self.data.id()
        if found == job.data:
            return
        state = f"is {found}" if found else "is not there (a volume that is not mounted?)"
        raise Unavailable(
            f"the job {job.key} is in the data directory {job.data}, and that of this server, "
            f"{self.data.root}, {state}; all servers must share FLYTEAGENTS_DUCKDB_DATA_DIR"
        )

    def _mine(
        self, job: DuckDBJob, description: dict[str, Any] | None, who: Identity
    ) -> dict[str, Any]:
        """The description, if the one who asks may know of the job."""
        if description is None:
            raise JobNotFound(f"there is no job {job.key} in {self.data.root}")
        if (description["project"], description["domain"]) != (who.project, who.domain):
            raise JobNotFound(f"there is no job {job.key} of {who.project}/{who.domain}")
        return description

    async def _tidy(self) -> None:
        while True:
            try:
                await asyncio.to_thread(
                    sweep, self.data, self.settings.keep, self.settings.keep_results
                )
            except OSError as error:
                log.warning("duckdb_query: cannot tidy %s: %s", self.data.root, error)
            await asyncio.sleep(HOUR)


_GONE = (
    "the job's process has gone before it ended: it was killed, perhaps for want of memory, or "
    "its machine or pod ended"
)
