"""Which job runs next, and how many run at once."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from flyteagents_duckdb_job.directory import DataDirectory, JobDirectory, lock

LENT = ("PATH", "HOME", "TMPDIR", "TZ", "LANG", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
LENT_PREFIXES = ("LC_", "PYTHON", "VIRTUAL_ENV", "SSL_CERT_")
STORES = ("AWS_", "GOOGLE_", "GCS_", "AZURE_", "FSSPEC_")
"""What fsspec's file systems read; jobs get it where the extra is installed. SQL cannot see it."""


def enqueue(data: DataDirectory, key: str, created: int) -> None:
    """Let the job wait for its turn; again is the same as once. `created` is in nanoseconds."""
    # Of one length, so that the names sort as the times do.
    (data.root / "waiting" / f"{created:020d}-{key}").touch()


def waiting(data: DataDirectory) -> list[str]:
    """The keys of the jobs that wait, oldest first."""
    return [marker.name.rpartition("-")[2] for marker in _markers(data)]


def look_at_slots(data: DataDirectory, slots: int) -> tuple[int, set[int]]:
    """How many slots are free, and the ids of the processes that have the others."""
    free, holders = 0, set()
    for number in range(slots):
        descriptor = _open(data, number)
        if lock(descriptor):
            free += 1
        else:
            # The file is empty for a moment, between its holder's lock and its number.
            holders.add(int(os.pread(descriptor, 20, 0) or b"0"))
        os.close(descriptor)
    return free, holders


def take_slot(data: DataDirectory, slots: int) -> int | None:
    """A place among the running jobs, for as long as the descriptor is open."""
    for _ in range(10):  # who looks at a free one holds it for a moment
        for number in range(slots):
            descriptor = _open(data, number)
            if lock(descriptor):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, str(os.getpid()).encode(), 0)
                return descriptor
            os.close(descriptor)
        time.sleep(0.02)
    return None


def next_job(data: DataDirectory) -> tuple[JobDirectory, dict[str, Any], int] | None:
    """Start the job that waits longest: its directory, description and `alive` descriptor."""
    for marker in _markers(data):
        job = data.job(marker.name.rpartition("-")[2])
        description = job.description()
        if description is None or job.started() is not None:
            marker.unlink(missing_ok=True)
            continue
        # Locked before it is started: a poll takes a started job that nobody holds for dead.
        alive = job.lock_alive()
        if alive is None:
            continue
        mine = job.start("runner")
        # Not before: if this process were killed in between, nobody would start the job.
        marker.unlink(missing_ok=True)
        if mine:
            return job, description, alive
        os.close(alive)
    return None


def command(data: DataDirectory, slots: int) -> list[str]:
    """The command of a process that runs the next job."""
    return [sys.executable, "-m", "flyteagents_duckdb_job.runner", str(data.root), str(slots)]


def environment(stores: bool) -> dict[str, str]:
    """What a job inherits: no setting and no secret of the server's."""
    prefixes = (*LENT_PREFIXES, *STORES) if stores else LENT_PREFIXES
    return {k: v for k, v in os.environ.items() if k in LENT or k.startswith(prefixes)}


def _markers(data: DataDirectory) -> list[Path]:
    return sorted((data.root / "waiting").iterdir())


def _open(data: DataDirectory, number: int) -> int:
    return os.open(data.root / "slots" / str(number), os.O_RDWR | os.O_CREAT, 0o600)
