"""Where a query's result is, in the form that the reader of the task's SDK takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    job: SnowflakeJob, handles: Sequence[str], declared: Mapping[str, Type]
) -> Mapping[str, object]:
    """The declared outputs of a statement that succeeded; `handles` are those of several. Raises
    InvalidTask for an output that is no table, or where it is not sure whose it is."""
    if not declared:
        # Nobody knows, for another connector's job; it has what that one would have returned.
        uri = result_uri(job, handles[-1] if handles else job.query_id)
        return {"results": StructuredDataset(uri)} if job.has_output is not False else {}
    uri = result_uri(job, _with_the_result(job, handles))
    found = table_output(declared)
    if found is None:
        name, of = next(iter(declared.items()))
        raise InvalidTask(
            f"output {name!r} is declared as {of.kind.value}, and Snowflake's result is a table; "
            "declare a structured dataset"
        )
    name, of = found
    return {name: StructuredDataset(uri, of.columns, of.format)}


def _with_the_result(job: SnowflakeJob, handles: Sequence[str]) -> str:
    """The query that has the task's result. Raises InvalidTask where Snowflake has cut the text
    into other statements than we have, and the result is not the last one's."""
    if not handles:
        return job.query_id
    if job.count in (0, len(handles)) and job.result < len(handles):
        return handles[job.result]
    if job.result < job.count - 1:
        raise InvalidTask(
            f"Snowflake ran {len(handles)} statements where the agent sees {job.count}, so it is "
            "not sure which of them has the result; end the text with it"
        )
    return handles[-1]
