"""The process of a job: takes a slot, starts the job that waits longest, runs it.

`python -m flyteagents_duckdb_job.runner DATA_DIRECTORY SLOTS`. With no slot or no job it ends.
"""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from flyteagents_duckdb_job.directory import DataDirectory, JobDirectory
from flyteagents_duckdb_job.queue import command, next_job, take_slot, waiting
from flyteagents_duckdb_job.usage import Usage, limit
from flyteagents_duckdb_job.verdict import Verdict, verdict
from flyteagents_duckdb_job.watch import Watch


def main(arguments: list[str]) -> None:
    data, slots = DataDirectory(Path(arguments[0])), int(arguments[1])
    slot = take_slot(data, slots)
    if slot is None:
        return

    found = next_job(data)
    if found is not None:
        run(data, *found)

    # Freed before it is looked who waits: one who comes in between sees the free slot himself.
    os.close(slot)
    if waiting(data):
        # The same process begins anew: its parent, who knows when it ends, stays the same.
        os.execv(sys.executable, command(data, slots))  # noqa: S606


def run(data: DataDirectory, job: JobDirectory, description: dict[str, Any], alive: int) -> None:
    """Run one job to its end, and say how it ended."""
    _log_to(job)
    limit(description["memory"])
    limits = [
        (seconds, phase, f"the job ran longer than {seconds:g} s, {why}")
        for seconds, phase, why in description["limits"]
    ]
    watch = Watch(job, alive, limits)
    watch.start()
    usage = Usage()

    ended, extra = _run(data, job, description, watch)

    # First: on a full disk there is no room for the verdict before.
    shutil.rmtree(job.work, ignore_errors=True)
    statistics = {**extra.pop("counts", {}), **usage.statistics(description)}
    after = f"{ended.phase.lower()} after {statistics['seconds']} s"
    # Not the lines that point into the SQL: a log line is one line, and they would point nowhere.
    why = ended.message.partition("\n")[0] if ended.message else ""
    say(f"{after}: {why}" if why else after)

    # Before the end is said: to the watch, an end means that somebody took this job for dead.
    watch.end()
    if ended.code:
        extra["code"] = ended.code
    mine = job.end(
        ended.phase,
        ended.message,
        statistics=statistics,
        began=usage.began,
        **extra,
    )
    if not mine and "uri" in extra:
        _discard(extra["uri"])
    # Last: a poll takes a started job that nobody holds, and that has no end yet, for dead.
    os.close(alive)


def _run(
    data: DataDirectory, job: JobDirectory, description: dict[str, Any], watch: Watch
) -> tuple[Verdict, dict[str, Any]]:
    """How the job ended, and what its end says besides. Whatever happens, it has an end."""
    query = None
    try:
        # Not at the top: DuckDB takes a moment to load, and a cancel is heard meanwhile.
        from flyteagents_duckdb_job.query import Query

        query = Query(data, job, description, watch, say)
        return Verdict("SUCCEEDED", ""), query.run()
    except BaseException as error:  # noqa: BLE001
        # An interrupted query raises an error of DuckDB's, which does not say who stopped it.
        cause = watch.stopped or error
        text = str(cause) if query is None else query.named_outside(str(cause))
        return verdict(cause, text, description), {}


def _discard(uri: str) -> None:
    """Remove the result of a job that somebody else gave up. Whoever did has said so."""
    from flyteagents_duckdb_job import results

    with suppress(Exception):
        results.discard(uri)


def _log_to(job: JobDirectory) -> None:
    log = os.open(job.path / "job.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def say(line: str) -> None:
    """A line for the job's log."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    try:
        os.write(1, f"{now} {' '.join(line.split())}\n".encode())
    except OSError:
        return  # a full disk: the verdict will say so


if __name__ == "__main__":
    main(sys.argv[1:])
