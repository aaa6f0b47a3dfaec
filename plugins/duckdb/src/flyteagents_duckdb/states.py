"""From what a job's directory says to what Flyte wants to know.

What a job tells of itself while it waits or runs is told until its end; for what it cannot tell
any more there is the agent's `later_info`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from flyteagents import Phase, Status, Type
from flyteagents_duckdb.outputs import outputs_of
from flyteagents_duckdb_job.directory import JobDirectory


def waiting_status(job: JobDirectory, queue: Sequence[str], slots: int) -> Status:
    """A job that has not started. `queue` has the keys of those that wait, oldest first."""
    info: dict[str, object] = {"state": "waiting"}
    message = "waits for its process to start"
    if job.key in queue:
        ahead = queue.index(job.key)
        info["ahead"] = ahead
        if ahead:
            message = f"waits for {ahead} that came before"
        message += f"; at most {slots} run at once (FLYTEAGENTS_DUCKDB_MAX_JOBS)"
    return Status(Phase.INITIALIZING, message=message, info=info, cancelling=job.cancel_asked)


def running_status(job: JobDirectory, now: float) -> Status:
    """A job that runs. Progress is DuckDB's estimate, from 0 to 1."""
    at = (job.started() or {}).get("at", now)
    info = {
        "state": "running",
        "seconds": round(max(now - at, 0.0), 1),
        **job.progress(),
    }
    return Status(
        Phase.RUNNING,
        info=info,
        started=_moment(at),
        cancelling=job.cancel_asked,
    )


def ended_status(job: JobDirectory, declared: Mapping[str, Type]) -> Status:
    """A job that has ended."""
    ended = job.ended() or {}
    phase = Phase[ended["phase"]]
    succeeded = phase is Phase.SUCCEEDED
    return Status(
        phase,
        message=ended["message"] or None,
        code=ended.get("code"),
        outputs=outputs_of(ended, declared) if succeeded else None,
        info=_ended_info(job, ended, succeeded),
        statistics=ended.get("statistics", {}),
        started=_moment(ended["began"]) if "began" in ended else None,
        ended=_moment(ended["at"]),
    )


def _ended_info(job: JobDirectory, ended: Mapping[str, Any], succeeded: bool) -> dict[str, object]:
    info: dict[str, object] = {
        "state": ended["phase"].lower(),
        **job.progress(),
    }
    started = job.started()
    if started is not None:
        info["seconds"] = round(max(ended["at"] - started["at"], 0.0), 1)
    info |= ended.get("statistics", {})

    if succeeded:
        info["progress"] = 1.0
    if "uri" in ended:
        info["result"] = ended["uri"]
    return info


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
