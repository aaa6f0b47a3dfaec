"""The process of a job: takes a slot, starts the job that waits longest, runs it.

`python -m flyteagents_duckdb_job.runner DATA_DIRECTORY SLOTS`. With no slot or no job it ends.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from flyteagents_duckdb_job.access import Refused, open_directories
from flyteagents_duckdb_job.directory import DataDirectory, JobDirectory
from flyteagents_duckdb_job.inputs import find_files, view
from flyteagents_duckdb_job.queue import command, next_job, take_slot, waiting
from flyteagents_duckdb_job.values import pack, unpack
from flyteagents_duckdb_job.watch import Stopped, Watch

LONGEST = 2000
"""Characters of an error that are kept."""


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
    _limit(description["memory"])
    limits = [
        (seconds, phase, f"the job ran longer than {seconds:g} s, {why}")
        for seconds, phase, why in description["limits"]
    ]
    watch = Watch(job, alive, limits)
    watch.start()
    began, cpu, extra = time.time(), _cpu_seconds(), {}
    try:
        extra = _run(data, job, description, watch)
        phase, message = "SUCCEEDED", ""
    except BaseException as error:  # noqa: BLE001 # whatever happens, the job has an end
        phase, message, extra = _verdict(error, description, watch)
    # First: on a full disk there is no room for the verdict before.
    shutil.rmtree(job.work, ignore_errors=True)
    statistics = _statistics(description, began, cpu, extra.pop("counts", {}))
    say(f"{phase.lower()} after {statistics['seconds']} s" + (f": {message}" if message else ""))
    watch.end()
    mine = job.end(phase, message, statistics=statistics, began=began, **extra)
    if not mine or phase != "SUCCEEDED":
        _discard_result(extra)
    os.close(alive)


def _run(
    data: DataDirectory, job: JobDirectory, description: dict[str, Any], watch: Watch
) -> dict[str, Any]:
    outputs, null = description["outputs"], description["csv_null"]
    table, scalars = outputs["table"], outputs["scalars"]
    files = {
        name: find_files(name, declared, description, data, job, say)
        for name, declared in description["tables"].items()
    }
    if description["unknown_config"]:
        say(f"not known in the task's config: {', '.join(description['unknown_config'])}")
    watch.check()
    from flyteagents_duckdb_job import results, sandbox  # DuckDB takes a moment to load

    opened = open_directories(description["open"], data)
    to = results.choose_destination(description, data, job, say) if table else None
    watch.growing = to.file if to else None
    connection = sandbox.connect(
        threads=description["threads"],
        memory=description["memory"],
        spill=description["spill"],
        work=str(job.work),
        directories=[*opened, *([f"{to.draft}/"] if to else [])],
        files=[str(file) for found in files.values() for file in found],
    )
    try:
        say(f"{description['threads']} threads, {description['memory'] >> 20} MiB of memory")
        for name, found in files.items():
            connection.execute(view(name, description["tables"][name], found, null))
            say(f"input {name}: {len(found)} file(s)")
        *first, last = parsed = sandbox.statements(connection, description["statement"])
        watch.connection, watch.of = connection, len(parsed)
        for statement in first:
            watch.check()
            connection.execute(statement, _bound(statement, description))
            watch.done += 1
        watch.check()
        counts = {}
        if sandbox.kind(last) in sandbox.ROWS:
            select, bound = sandbox.text_of(last), _bound(last, description)
            if scalars or not table:
                made = f"CREATE TEMP TABLE flyteagents_result AS\n{select}\n"
                connection.execute(made, bound)
                counted = connection.execute("SELECT count(*) FROM flyteagents_result")
                counts["rows"] = counted.fetchone()[0]
                select, bound = "FROM flyteagents_result", {}
            values = results.single_row(connection, scalars) if scalars else {}
            extra: dict[str, Any] = {"scalars": {name: pack(v) for name, v in values.items()}}
            if to is not None:
                counts["rows"] = results.write_table(connection, select, bound, to)
                counts["bytes"] = to.file.stat().st_size
                extra["columns"] = results.columns_of(connection, to.file)
                _check_columns(table["columns"], extra["columns"])
                watch.check()
                extra["uri"], extra["file"] = results.publish(to, description, data, say)
                say(f"{counts['rows']} rows, {counts['bytes']} bytes written to {extra['uri']}")
        elif table or scalars:
            raise Refused(
                f"the last statement is {sandbox.kind(last)} and returns no rows, but the task "
                f"declares outputs: {', '.join([*([table['name']] if table else []), *scalars])}"
            )
        else:
            connection.execute(last, _bound(last, description))
            extra = {}
    finally:
        watch.connection = None
        connection.close()
        if to is not None:
            shutil.rmtree(to.draft, ignore_errors=True)
    return {**extra, "counts": counts}


def _bound(statement: Any, description: dict[str, Any]) -> dict[str, Any]:
    """The parameters that a statement uses. Raises Refused for those that are not there."""
    bound = {}
    for name in sorted(statement.named_parameters):
        if name in description["tables"]:
            raise Refused(f"input {name!r} is a table: write FROM {name}, not ${name}")
        if name not in description["parameters"]:
            there = ", ".join(f"${each}" for each in description["parameters"]) or "none"
            raise Refused(f"there is no input for the parameter ${name}; there are: {there}")
        bound[name] = unpack(description["parameters"][name])
    return bound


def _check_columns(declared: list[str], columns: list[dict[str, Any]]) -> None:
    there = [column["name"] for column in columns]
    missing = [name for name in declared if name not in there]
    if missing:
        raise Refused(
            f"the task declares the columns {', '.join(missing)}, which the result does not have; "
            f"it has {', '.join(there)}"
        )


def _verdict(
    error: BaseException, description: dict[str, Any], watch: Watch
) -> tuple[str, str, dict[str, Any]]:
    """How a job with this error ended: phase, message, and the error's code."""
    if watch.stopped is not None:
        error = watch.stopped
    if isinstance(error, Stopped):
        return error.phase, str(error), {}
    text = str(error).strip()[:LONGEST]
    if isinstance(error, Refused):
        return "FAILED", text, {}
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "No space left on device" in text:
        return (
            "RETRYABLE_FAILED",
            f"no space left for the job's files: {text}",
            {"code": "DiskFull"},
        )
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "OutOfMemoryException":
        limit = f"{description['memory'] >> 20} MiB"
        text = (
            f"the query needs more memory than the job's limit of {limit} (`memory` in the task's "
            f"config), and may spill {description['spill'] >> 20} MiB to disk "
            f"(FLYTEAGENTS_DUCKDB_MAX_SPILL). {text.partition('Possible solutions')[0].strip()}"
        )
        return "FAILED", text, {"code": "OutOfMemory"}
    if name == "PermissionException":
        text += " (a query reads its declared inputs and what the operator opened, nothing else)"
    duckdb = sys.modules.get("duckdb")
    if duckdb is not None and isinstance(error, duckdb.Error):
        return "FAILED", text, {}
    return "RETRYABLE_FAILED", f"the job's process failed: {name}: {text}", {}


def _statistics(
    description: dict[str, Any], began: float, cpu: float, counts: dict[str, int]
) -> dict[str, float | int]:
    return {
        **counts,
        "seconds": round(time.time() - began, 3),
        "cpu_seconds": round(_cpu_seconds() - cpu, 3),
        "waited_seconds": round(max(began - description["created"] / 1e9, 0), 3),
        "peak_memory_bytes": _peak_memory(),
    }


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak_memory() -> int:
    """Bytes. Not by getrusage where that can be helped: its figure outlives `execv`."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _limit(memory: int) -> None:
    """A wall behind DuckDB's own limit, for what that does not count; and no core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        wall = 2 * memory + (1 << 30)
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard == resource.RLIM_INFINITY or wall < hard:
            resource.setrlimit(resource.RLIMIT_DATA, (wall, hard))


def _discard_result(extra: dict[str, Any]) -> None:
    """Remove the result of a job that somebody else gave up."""
    uri = extra.get("uri", "")
    if uri.startswith("/"):
        shutil.rmtree(uri, ignore_errors=True)


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
