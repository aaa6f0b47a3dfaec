"""Snowflake's numbers of a statement."""

from __future__ import annotations

from collections.abc import Mapping

from flyteagents_snowflake.answers import Answer
from flyteagents_snowflake.job import SnowflakeJob

Numbers = dict[str, bool | int | float | str]
_CHANGED = {
    "rows_inserted": "numRowsInserted",
    "rows_updated": "numRowsUpdated",
    "rows_deleted": "numRowsDeleted",
    "duplicate_rows_updated": "numDuplicateRowsUpdated",
}
# Columns of QUERY_HISTORY; times are milliseconds.
FROM_HISTORY = {
    "query_type": "query_type",
    "warehouse": "warehouse_name",
    "warehouse_size": "warehouse_size",
    "bytes_scanned": "bytes_scanned",
    "rows_produced": "rows_produced",
    "elapsed_ms": "total_elapsed_time",
    "compile_ms": "compilation_time",
    "execute_ms": "execution_time",
    "queued_provisioning_ms": "queued_provisioning_time",
    "queued_repair_ms": "queued_repair_time",
    "queued_overload_ms": "queued_overload_time",
    "cloud_services_credits": "credits_used_cloud_services",
}


def statement_numbers(done: Answer) -> Numbers:
    """What the answer itself has."""
    numbers: Numbers = {}
    # What changes rows has a result too: one row with the counts, which `stats` has by name.
    if done.shape is not None and not done.stats:
        numbers["rows"] = done.shape.num_rows
        size = sum(part.uncompressed_size for part in done.shape.partition_info)
        numbers["result_bytes"] = size
    for ours, theirs in _CHANGED.items():
        if (number := _number(done.stats.get(theirs))) is not None:
            numbers[ours] = number
    return numbers


def history_numbers(row: Mapping[str, str | None]) -> Numbers:
    """What the query history has besides."""
    numbers: Numbers = {}
    for ours, theirs in FROM_HISTORY.items():
        value = row.get(theirs)
        if value:
            number = _number(value)
            numbers[ours] = value if number is None else number
    return numbers


def job_info(job: SnowflakeJob, numbers: Mapping[str, object]) -> dict[str, object]:
    """The same for `custom_info`, with what names the query."""
    return {"query_id": job.query_id, "account": job.account, **numbers}


def _number(value: object) -> int | float | None:
    """Snowflake writes numbers as text."""
    for kind in (int, float):
        try:
            return kind(str(value))
        except ValueError:
            continue
    return None
