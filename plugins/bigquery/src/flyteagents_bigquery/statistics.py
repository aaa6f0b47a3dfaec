"""BigQuery's numbers of a job."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flyteagents.kit import answers
from flyteagents_bigquery.resource import JobResource, number

TABLES = 50


def moment(value: object) -> datetime | None:
    """BigQuery's times are milliseconds since 1970, as text."""
    return answers.moment(number(value))


def job_statistics(job: JobResource) -> dict[str, bool | int | float | str]:
    """What there is of a job's numbers, for its trace, and summed up for metrics."""
    all_, query = job.statistics, job.query
    created, started, ended = (
        number(all_.get(name)) for name in ("creationTime", "startTime", "endTime")
    )
    run = None if started is None or ended is None else ended - started
    changed = query.get("dmlStats") or {}
    found: dict[str, bool | int | float | str | None] = {
        "statement_type": job.statement_type or None,
        "bytes_processed": number(all_.get("totalBytesProcessed")),
        "bytes_billed": number(query.get("totalBytesBilled")),
        "slot_ms": number(all_.get("totalSlotMs")) or number(query.get("totalSlotMs")),
        "cache_hit": query.get("cacheHit"),
        "rows": _rows(query),
        "rows_inserted": number(changed.get("insertedRowCount")),
        "rows_updated": number(changed.get("updatedRowCount")),
        "rows_deleted": number(changed.get("deletedRowCount")),
        "queue_ms": None if created is None or started is None else started - created,
        "run_ms": run,
        "child_jobs": job.children or None,
        "reservation": all_.get("reservation_id"),
        "edition": all_.get("edition"),
    }
    return {name: value for name, value in found.items() if value is not None}


def job_info(job: JobResource, numbers: Mapping[str, object]) -> dict[str, object]:
    """The same for `custom_info`, with the tables: what was read, and what was written."""
    slots, run = number(numbers.get("slot_ms")), number(numbers.get("run_ms"))
    table = job.configuration.query.destination_table
    tables = [_name(one) for one in job.query.get("referencedTables") or ()]
    found: dict[str, object] = {
        "job": job.job_reference.job_id,
        "project": job.job_reference.project_id,
        "location": job.job_reference.location,
        "state": job.status.state,
        **numbers,
        "average_slots": round(slots / run, 2) if slots and run else None,
        "billing_tier": number(job.query.get("billingTier")),
        "completion_ratio": _completed(job),
        "destination_table": table and f"{table.project_id}.{table.dataset_id}.{table.table_id}",
        "referenced_tables": tables[:TABLES],
        "session_id": _session(job),
        "warnings": _warnings(job),
    }
    return {name: value for name, value in found.items() if value not in (None, "", [])}


def _rows(query: Mapping[str, Any]) -> int | None:
    """Rows changed by DML, else those that the last stage wrote; a cached result has no stages."""
    changed = number(query.get("numDmlAffectedRows"))
    plan = query.get("queryPlan") or ()
    if changed is not None or not plan:
        return changed
    return number(plan[-1].get("recordsWritten"))


def _completed(job: JobResource) -> object:
    """The part of the job that is done. BigQuery may leave it out at the end, and what was told
    while the job ran would stay: a query that fails has no result."""
    told = job.statistics.get("completionRatio")
    if told is not None or job.status.state != "DONE":
        return told
    return 1.0 if job.status.error_result is None else 0.0


def _session(job: JobResource) -> str | None:
    """The session that the job made or ran in: later jobs name it to share its variables and
    temporary tables."""
    session = job.statistics.get("sessionInfo")
    return str(session.get("sessionId") or "") if isinstance(session, Mapping) else None


def _warnings(job: JobResource) -> list[str]:
    """Errors that did not end the job."""
    last = job.status.error_result
    return [one.message for one in job.status.errors if one != last and one.message][:5]


def _name(table: Mapping[str, Any]) -> str:
    return ".".join(str(table.get(part, "")) for part in ("projectId", "datasetId", "tableId"))
