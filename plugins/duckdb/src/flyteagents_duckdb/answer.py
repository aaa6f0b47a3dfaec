"""From what a job's directory says to what Flyte wants to know."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from flyteagents import Blob, Column, Kind, Phase, Schema, Status, StructuredDataset, Type
from flyteagents_duckdb.task import table_output
from flyteagents_duckdb_job.directory import JobDirectory
from flyteagents_duckdb_job.values import unpack

_SCHEMA_KINDS = (
    Kind.INTEGER, Kind.FLOAT, Kind.STRING, Kind.BOOLEAN, Kind.DATETIME, Kind.DURATION,
)  # fmt: skip


def waiting_status(job: JobDirectory, queue: list[str]) -> Status:
    """A job that has not started."""
    info: dict[str, object] = {"state": "waiting"}
    if job.key in queue:
        info["ahead"] = queue.index(job.key)
    return Status(Phase.INITIALIZING, info=info, cancelling=job.cancel_asked)


def running_status(job: JobDirectory, now: float) -> Status:
    """A job that runs. Progress is DuckDB's estimate, from 0 to 1."""
    at = (job.started() or {}).get("at", now)
    return Status(
        Phase.RUNNING,
        info={"state": "running", "seconds": round(max(now - at, 0.0), 1), **job.progress()},
        started=_moment(at),
        cancelling=job.cancel_asked,
    )


def ended_status(ended: Mapping[str, Any], declared: Mapping[str, Type]) -> Status:
    """A job that has ended."""
    phase, statistics = Phase[ended["phase"]], ended.get("statistics", {})
    info = {"state": phase.name.lower(), **statistics}
    if phase is Phase.SUCCEEDED:
        info["progress"] = 1.0
        if "uri" in ended:
            info["result"] = ended["uri"]
    return Status(
        phase,
        message=ended["message"] or None,
        code=ended.get("code"),
        outputs=_outputs(ended, declared) if phase is Phase.SUCCEEDED else None,
        info=info,
        statistics=statistics,
        started=_moment(ended["began"]) if "began" in ended else None,
        ended=_moment(ended["at"]),
    )


def _outputs(ended: Mapping[str, Any], declared: Mapping[str, Type]) -> dict[str, object]:
    outputs = {name: unpack(value) for name, value in ended.get("scalars", {}).items()}
    table = table_output(declared)
    if table is not None and "uri" in ended:
        name, kind = table
        columns = tuple(Column(each["name"], _type(each["type"])) for each in ended["columns"])
        if kind.kind is Kind.BLOB:
            whole = kind.multipart
            outputs[name] = Blob(ended["uri"] if whole else ended["file"], "parquet", whole)
        elif kind.kind is Kind.SCHEMA:
            fit = tuple(column for column in columns if column.type.kind in _SCHEMA_KINDS)
            outputs[name] = Schema(ended["uri"], fit)
        else:
            outputs[name] = StructuredDataset(ended["uri"], columns, "parquet")
    return outputs


def _type(packed: Mapping[str, Any]) -> Type:
    of = (_type(packed["of"]),) if "of" in packed else ()
    return Type(Kind(packed["kind"]), of)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
