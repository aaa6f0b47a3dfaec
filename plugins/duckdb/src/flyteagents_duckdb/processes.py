"""Starts the processes of jobs, and keeps them from becoming zombies."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import threading

from flyteagents_duckdb_job.directory import DataDirectory
from flyteagents_duckdb_job.queue import command, environment, look_at_slots, waiting

log = logging.getLogger("flyteagents.duckdb")


class Processes:
    """The processes that this server started for jobs. They go on when it ends."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._running: set[int] = set()

    def start_waiting(self, data: DataDirectory, slots: int) -> None:
        """Start a process for the job that waits longest, if it may run and none is on its way.
        Raises OSError."""
        with self._guard:
            queue = len(waiting(data))
            free, holders = look_at_slots(data, slots) if queue else (0, set())
            # A new process has no slot for a moment; not counted, each poll would start one more.
            coming = len(self._running - holders)
            if coming < min(queue, free):
                self._start(data, slots)

    def _start(self, data: DataDirectory, slots: int) -> None:
        stores = importlib.util.find_spec("fsspec") is not None
        with (data.root / "runner.log").open("ab") as output:
            # In a session of its own, and with none of our files: it outlives this server.
            process = subprocess.Popen(  # noqa: S603 # our own module
                command(data, slots),
                cwd="/",
                env=environment(stores),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._running.add(process.pid)
        # Somebody must wait for it: in a container we may be the process that has to.
        threading.Thread(target=self._await, args=(process,), daemon=True).start()

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        with self._guard:
            self._running.discard(process.pid)
        if code:
            log.warning(
                "duckdb_query: a job's process ended with code %d; the job's log, or runner.log "
                "in the data directory, may say why",
                code,
            )
