"""The jobs that a data directory knows of, for whoever may read it: people at its machine.

Flyte asks for one job at a time, by what it was told of it, and no server offers this list. It
has the jobs of all projects, as the directory has.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from flyteagents import Phase
from flyteagents_duckdb.job import DuckDBJob
from flyteagents_duckdb_job.directory import DataDirectory, JobDirectory


@dataclass(frozen=True)
class PastJob:
    """One job.

    job: names it to the agent's `get`, `cancel` and `logs`, which also want its `project` and
    `domain` in the call's identity.
    phase: INITIALIZING while it waits. A job whose process has gone is RUNNING until a poll has
    looked at it.
    created, started, ended: with time zone; None for what has not happened.
    result: the URI of its table, "" where it has none.
    """

    job: DuckDBJob
    project: str
    domain: str
    execution: str
    node: str
    statement: str
    phase: Phase
    message: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    result: str


def past_jobs(data: DataDirectory, count: int) -> list[PastJob]:
    """The newest `count` jobs, the newest first; none where there is no directory."""
    found = data.id()
    if found is None:
        return []

    described = (
        (description["created"], path.name, description)
        for path in (data.root / "jobs").iterdir()
        if (description := data.job(path.name).description()) is not None
    )
    newest = heapq.nlargest(count, described, key=lambda each: each[:2])
    return [_past_job(data.job(key), description, found) for _, key, description in newest]


def _past_job(job: JobDirectory, description: dict[str, Any], data: str) -> PastJob:
    started = job.started()
    ran = started is not None and started["by"] == "runner"  # or it was cancelled before
    ended = job.ended()
    if ended is not None:
        phase = Phase[ended["phase"]]
    else:
        phase = Phase.INITIALIZING if started is None else Phase.RUNNING
    return PastJob(
        job=DuckDBJob(key=job.key, data=data),
        project=description["project"],
        domain=description["domain"],
        execution=description["execution"],
        node=description["node"],
        statement=description["statement"],
        phase=phase,
        message=ended["message"] if ended else "",
        created=_moment(description["created"] / 1e9),
        started=_moment(started["at"]) if started and ran else None,
        ended=_moment(ended["at"]) if ended else None,
        result=ended.get("uri", "") if ended else "",
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
