"""Starts the processes of jobs, and keeps them from becoming zombies."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import threading

from flyteagents_duckdb_job.directory import DataDirectory
from flyteagents_duckdb_job.queue import command, environment, room, waiting

log = logging.getLogger("flyteagents.duckdb")


def start_waiting(data: DataDirectory, slots: int) -> None:
    """Start a process for the job that waits longest, if there is one and it may run.

    It is in a session of its own, holds none of our pipes, and goes on when this server ends.
    """
    if not waiting(data) or not room(data, slots):
        return
    stores = importlib.util.find_spec("fsspec") is not None
    output = data.root / "runner.log"
    try:
        with output.open("ab") as file:
            process = subprocess.Popen(  # noqa: S603 # our own module
                command(data, slots),
                cwd="/",
                env=environment(stores),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
    except OSError as error:  # the next poll tries again
        log.error("duckdb_query: cannot start a job's process: %s", error)
        return
    # Somebody must wait for it: in a container we may be the process that has to.
    threading.Thread(target=_await, args=(process, output), daemon=True).start()


def _await(process: subprocess.Popen[bytes], output: object) -> None:
    code = process.wait()
    if code:
        log.warning("duckdb_query: a job's process ended with %d; see its log, or %s", code, output)
