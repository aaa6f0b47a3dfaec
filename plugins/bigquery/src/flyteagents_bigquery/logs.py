"""A job's log: BigQuery keeps none, but for its stages, a timeline, and a script's statements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone

from flyteagents import LogLine
from flyteagents.kit.texts import excerpt
from flyteagents_bigquery.resource import JobResource, number
from flyteagents_bigquery.statistics import job_statistics, moment

TEXT = 200
_END = datetime.max.replace(tzinfo=timezone.utc)


def log_lines(job: JobResource, children: Sequence[JobResource]) -> list[LogLine]:
    """All lines, in the order of time."""
    lines = [*_life(job), *_timeline(job), *_stages(job), *map(_statement, children)]
    # Lines of one moment stay as they are; those without one are told at the end.
    return sorted(lines, key=lambda line: line.timestamp or _END)


def _life(job: JobResource) -> Iterator[LogLine]:
    created = moment(job.statistics.get("creationTime"))
    started = moment(job.statistics.get("startTime"))
    ended = moment(job.statistics.get("endTime"))
    yield LogLine(f"created in {job.job_reference.location or 'no location'}", created, True)
    if started:
        yield LogLine("started", started, True)
    for error in job.status.errors:
        where = f" at {error.location}" if error.location else ""
        yield LogLine(f"{error.reason}{where}: {error.message}", ended or started)
    if ended:
        numbers = job_statistics(job)
        told = ", ".join(f"{name}={value}" for name, value in numbers.items())
        yield LogLine(f"done: {told}", ended, True)
    elif started:
        yield LogLine(f"state {job.status.state}", None, True)


def _timeline(job: JobResource) -> Iterator[LogLine]:
    started = moment(job.statistics.get("startTime"))
    for sample in job.query.get("timeline") or ():
        elapsed = number(sample.get("elapsedMs")) or 0
        text = (
            f"{sample.get('completedUnits', 0)} units of work done, "
            f"{sample.get('activeUnits', 0)} active, {sample.get('pendingUnits', 0)} pending, "
            f"{sample.get('totalSlotMs', 0)} slot ms"
        )
        at = started and started + timedelta(milliseconds=elapsed)
        yield LogLine(text, at, True)


def _stages(job: JobResource) -> Iterator[LogLine]:
    for stage in job.query.get("queryPlan") or ():
        text = (
            f"stage {stage.get('name', '?')}: {stage.get('recordsRead', 0)} records read, "
            f"{stage.get('recordsWritten', 0)} written, {str(stage.get('status', '')).lower()}"
        )
        yield LogLine(text, moment(stage.get("endMs")) or moment(stage.get("startMs")), True)


def _statement(child: JobResource) -> LogLine:
    """One statement of a script, where it stands, and how it ended."""
    frames = (child.statistics.get("scriptStatistics") or {}).get("stackFrames") or [{}]
    frame = frames[0]
    where = f"[{frame.get('startLine', '?')}:{frame.get('startColumn', '?')}]"
    text = " ".join(excerpt(str(frame.get("text") or ""), TEXT).split())
    error = child.status.error_result
    ended = f"{error.reason}: {error.message}" if error else child.status.state.lower()
    at = moment(child.statistics.get("endTime")) or moment(child.statistics.get("startTime"))
    return LogLine(f"{where} {child.statement_type} {ended} ({text})", at, error is None)
