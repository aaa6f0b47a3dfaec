"""What a server does with the jobs of a data directory.

For this agent the directory is the vendor: whatever a call asks for is answered from it and
written to it, so that every server that shares it gives the same answer. What is held in memory
here may be lost: the processes that this server waits for, and why a job could not be claimed.
"""

from __future__ import annotations

import errno
import logging
import shutil
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from flyteagents import (
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
from flyteagents.kit.texts import excerpt
from flyteagents_duckdb.config import DuckDBConfig
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

REMEMBERED = 1000
"""Jobs whose refusal is kept for the poll that asks why; a poll comes within a minute."""

GONE = (
    "the job's process has gone before it ended: it was killed, perhaps for want of memory, or "
    "its machine or pod ended"
)


class Jobs:
    """The jobs of one data directory. All methods block."""

    def __init__(self, settings: DuckDBSettings) -> None:
        self.data = DataDirectory(settings.data_dir)
        self._settings = settings
        self._processes = Processes()
        self._refused: OrderedDict[str, str] = OrderedDict()

    def prepare(self) -> str:
        """Make the data directory if it is not there; its id. Raises OSError."""
        # Those with placeholders are looked at when a job gives them names.
        fixed = [each for each in self._settings.open_prefixes if "{" not in each]
        try:
            found = self.data.prepare()
            open_directories(fixed, self.data)
        except OSError as error:
            raise OSError(
                f"the data directory {self.data.root} cannot be used: {error.strerror or error}; "
                "FLYTEAGENTS_DUCKDB_DATA_DIR names another one"
            ) from error
        except Refused as error:
            raise OSError(str(error)) from None
        return found

    def create(self, named: DuckDBJob, task: Task[DuckDBConfig]) -> None:
        """Claim the job, or find it, and start it if it may run. Raises InvalidTask, JobConflict,
        Unavailable."""
        description = describe(task, self._settings)
        self._check_directory(named)
        job = self.data.job(named.key)
        there = job.description()
        if there is None:
            self.claim(named, description)
            there = job.description()  # another server's, where that was faster
        if there is None:
            raise Unavailable(f"the job {named.key} cannot be read back from {self.data.root}")

        if not task.fingerprint.matches(there["fingerprint"]):
            raise JobConflict("a job with this key does other work; give the task another prefix")
        # By the `created` of the first claim: with ours, the job would wait under two markers.
        self._start(job, there)

    def claim(self, named: DuckDBJob, description: dict[str, Any]) -> None:
        """Make the job's directory, unless it is there. Raises Unavailable."""
        try:
            free = shutil.disk_usage(self.data.root).free
            least = self._settings.min_free
            if free < least:
                raise OSError(
                    errno.ENOSPC,
                    f"{free >> 20} MiB are free, and a job needs {least >> 20} MiB",
                )
            self.data.claim_job(named.key, description)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            what = "no space left in" if full else "cannot write to"
            text = f"{what} the data directory {self.data.root}: {error.strerror}"
            # The create may be answered with the handle all the same; then a poll has to say why.
            self._refuse(named, text)
            raise Unavailable(text, code="DiskFull" if full else None) from error
        self._refused.pop(named.key, None)

    def status(self, named: DuckDBJob, who: Identity, declared: Mapping[str, Type]) -> Status:
        """How a job is doing. One that waits is started when there is room, and one whose process
        has gone is ended. Raises JobNotFound, Unavailable."""
        job, description = self._look(named)
        if description is None and named.key in self._refused:
            return Status(Phase.RETRYABLE_FAILED, self._refused[named.key])
        description = self._mine(named, description, who)

        if job.ended() is not None:
            return ended_status(job, declared)

        if job.started() is None and not (job.cancel_asked and self._withdraw(job)):
            self._start(job, description)
            if job.started() is None:
                return waiting_status(job, waiting(self.data), self._settings.max_jobs)

        now = self.data.now()
        if job.ended() is None and job.alive(now):
            return running_status(job, now)
        if job.ended() is None:  # it may have ended, and let go of its lock, since we looked
            if job.cancel_asked:
                job.end("ABORTED", "the job was cancelled")
            else:
                job.end("RETRYABLE_FAILED", GONE)
        return ended_status(job, declared)

    def cancel(self, named: DuckDBJob, who: Identity) -> None:
        """Leave a note that the job's process watches for. Raises JobNotFound, Unavailable."""
        job, description = self._look(named)
        self._mine(named, description, who)
        if job.ended() is None:
            # The note before the look: a process that starts the job in between finds it.
            job.ask_cancel()
            if job.started() is None:
                self._withdraw(job)

    def log(self, named: DuckDBJob, who: Identity, token: str, lines: int) -> LogPage:
        """A page of the job's log. Raises InvalidTask, JobNotFound, Unavailable."""
        job, description = self._look(named)
        self._mine(named, description, who)
        if not (token.isdecimal() or token == ""):
            raise InvalidTask(f"{excerpt(token, 40)!r} is not a token of this log")
        return read_page(job, int(token or 0), lines)

    def _refuse(self, named: DuckDBJob, text: str) -> None:
        self._refused[named.key] = text
        while len(self._refused) > REMEMBERED:
            self._refused.popitem(last=False)

    def _withdraw(self, job: JobDirectory) -> bool:
        """End a job that has not started, so that nobody starts it."""
        if not job.start("cancel"):
            return False
        job.end("ABORTED", "the job was cancelled before it started")
        return True

    def _start(self, job: JobDirectory, description: Mapping[str, Any]) -> None:
        if job.started() is not None or job.ended() is not None:
            return
        try:
            enqueue(self.data, job.key, description["created"])
            self._processes.start_waiting(self.data, self._settings.max_jobs)
        except OSError as error:  # it is claimed: a later poll starts it
            log.warning("duckdb_query: job %s is not started yet: %s", job.key, error)

    def _look(self, named: DuckDBJob) -> tuple[JobDirectory, dict[str, Any] | None]:
        self._check_directory(named)
        job = self.data.job(named.key)
        return job, job.description()

    def _check_directory(self, named: DuckDBJob) -> None:
        """Raises Unavailable for a job of another directory: it may be well where it is."""
        found = self.data.id()
        if found == named.data:
            return
        state = f"is {found}" if found else "is not there (a volume that is not mounted?)"
        raise Unavailable(
            f"the job {named.key} is in the data directory {named.data}, and that of this server, "
            f"{self.data.root}, {state}; all servers must share FLYTEAGENTS_DUCKDB_DATA_DIR"
        )

    def _mine(
        self, named: DuckDBJob, description: dict[str, Any] | None, who: Identity
    ) -> dict[str, Any]:
        """The description, if the one who asks may know of the job. Raises JobNotFound."""
        if description is None:
            raise JobNotFound(f"there is no job {named.key} in {self.data.root}")
        # Not Forbidden, which would tell that another tenant has such a job.
        if (description["project"], description["domain"]) != (who.project, who.domain):
            raise JobNotFound(f"there is no job {named.key} of {who.project}/{who.domain}")
        return description
