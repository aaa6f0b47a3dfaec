"""Removes what has been kept long enough."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from flyteagents_duckdb_job.directory import DataDirectory, JobDirectory, lock

log = logging.getLogger("flyteagents.duckdb")
DRAFTS = 3600.0
"""Seconds after which what somebody began to make, and did not finish, is removed."""

LONGEST_LOG = 1_000_000
"""Bytes of `runner.log`, which has what processes say that find no job to say it of."""


def sweep(data: DataDirectory, keep: float, keep_results: float) -> int:
    """Remove old jobs, old results in the data directory, and leftovers; how many jobs went.
    One server does it at a time. Results under an output prefix are not touched."""
    guard = os.open(data.root / "janitor", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        gone = _sweep(data, keep, keep_results) if lock(guard) else 0
    finally:
        os.close(guard)
    if gone:
        log.info("duckdb_query: jobs that were old and are removed: %d", gone)
    return gone


def _sweep(data: DataDirectory, keep: float, keep_results: float) -> int:
    now = data.now()
    gone = [job for job in _jobs(data) if _is_over(job, now, keep)]
    for job in gone:
        _remove(data, job.path)

    leftovers = [
        *_older(data.root / "new", now - DRAFTS),
        *_older(data.root / "trash", now - DRAFTS),
        *_older(data.root / "waiting", now - keep),
    ]
    for tenant in (data.root / "results").glob("*/*"):
        leftovers += _older(tenant, now - keep_results)
    for path in leftovers:
        _remove(data, path)

    # Cut, not removed: processes that live have it open and append to it.
    runner_log = data.root / "runner.log"
    if runner_log.exists() and runner_log.stat().st_size > LONGEST_LOG:
        os.truncate(runner_log, 0)
    return len(gone)


def _jobs(data: DataDirectory) -> Iterator[JobDirectory]:
    return (JobDirectory(path) for path in (data.root / "jobs").iterdir())


def _is_over(job: JobDirectory, now: float, keep: float) -> bool:
    """Whether the job's last sign of life is long past. One that waits or runs stays."""
    signs = (job.path / name for name in ("ended.json", "alive", "job.json"))
    times = [sign.stat().st_mtime for sign in signs if sign.exists()]
    return now - max(times, default=0.0) > keep and not job.alive(now)


def _older(directory: Path, than: float) -> list[Path]:
    return [path for path in directory.iterdir() if path.lstat().st_mtime < than]


def _remove(data: DataDirectory, path: Path) -> None:
    """First moved away in one step, so that nobody finds half of it."""
    trash = data.root / "trash" / f"{path.name}.{secrets.token_hex(4)}"
    try:
        path.rename(trash)
    except FileNotFoundError:
        return
    if trash.is_dir():
        shutil.rmtree(trash, ignore_errors=True)
    else:
        trash.unlink(missing_ok=True)
