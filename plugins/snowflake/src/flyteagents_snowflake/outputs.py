"""Where a query's result is, in the form that the reader of the task's SDK takes."""

from __future__ import annotations

from collections.abc import Mapping

from flyteagents import InvalidTask, Kind, StructuredDataset, Type
from flyteagents.kit.outputs import table_output
from flyteagents_snowflake.job import SnowflakeJob

_ANY = Type(Kind.STRUCTURED_DATASET)


def result_uri(job: SnowflakeJob, query_id: str) -> str:
    """Both SDKs split it at "/", "://" and ":", and take seven parts."""
    separator = ":" if job.sdk == "flytekit" else "/"
    parts = (job.warehouse, job.database, job.schema_name)
    where = "/".join(part or "" for part in parts)
    return f"snowflake://{job.user}{separator}{job.account}/{where}/{query_id}"


def job_outputs(
    job: SnowflakeJob, query_id: str, declared: Mapping[str, Type]
) -> Mapping[str, object]:
    """The declared outputs of a statement that succeeded. Raises InvalidTask for an output that
    is no table."""
    uri = result_uri(job, query_id)
    if not declared:
        # Nobody knows, for another connector's job; it has what that one would have returned.
        return {"results": StructuredDataset(uri)} if job.has_output is not False else {}
    found = table_output(declared)
    if found is None:
        name, of = next(iter(declared.items()))
        raise InvalidTask(
            f"output {name!r} is declared as {of.kind.value}, and Snowflake's result is a table; "
            "declare a structured dataset"
        )
    name, of = found
    return {name: StructuredDataset(uri, of.columns, of.format)}
