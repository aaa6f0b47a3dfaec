"""Where a job's result is, as the output that the task declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flyteagents import Call, InvalidTask, Kind, StructuredDataset, Type, Unavailable
from flyteagents.kit.outputs import table_output
from flyteagents_bigquery.job import BigQueryJob
from flyteagents_bigquery.resource import LISTED, JobPage, JobResource, Table, number

PAGE, PAGES = 500, 20


async def job_outputs(job: BigQueryJob, done: JobResource, call: Call) -> Mapping[str, object]:
    """The declared outputs of a job that succeeded. Raises InvalidTask where it has no result."""
    declared = call.declared
    if not declared:
        # Another connector may have started it, and nobody knows: what it has, by flytekit's name.
        table = None if _is_script(done) else _own_table(done)
        return {"results": _dataset(table, Type(Kind.STRUCTURED_DATASET))} if table else {}
    found = table_output(declared)
    for name, of in declared.items():
        if found is None or name != found[0]:
            raise InvalidTask(
                f"output {name!r} is declared as {of.kind.value}, and BigQuery's result is a "
                "table; declare a structured dataset, and nothing else"
            )
    assert found is not None  # something is declared
    name, of = found
    return {name: _dataset(await _table(job, done, call), of)}


async def child_jobs(job: BigQueryJob, call: Call) -> Sequence[JobResource]:
    """The jobs of a script's statements, oldest first. Raises Unavailable where BigQuery leaves
    them out of its answer."""
    children: list[JobResource] = []
    token: str | None = None
    for _ in range(PAGES):
        params: dict[str, str | int | None] = {
            "parentJobId": job.job_id,
            "projection": "full",
            "fields": LISTED,
            "maxResults": PAGE,
            "pageToken": token,
        }
        page = await call.http.get(f"/projects/{job.project}/jobs", into=JobPage, params=params)
        if page.unreachable and job.location in (None, *page.unreachable):
            raise Unavailable(f"BigQuery cannot list the jobs in {', '.join(page.unreachable)} now")
        children += page.jobs
        token = page.next_page_token
        if not token:
            break
    # jobs.list has the newest first, also of those that began in the same millisecond.
    children.reverse()
    return sorted(children, key=lambda child: number(child.statistics.get("startTime")) or 0)


async def _table(job: BigQueryJob, done: JobResource, call: Call) -> Table:
    if _is_script(done):
        return await _key_result(job, done, call)
    table = _own_table(done)
    # A hiccup, so that Flyte asks again: FAILED cannot be taken back.
    if table is None and not done.described:
        raise Unavailable(
            f"BigQuery says that job {job} is done, and not what it did or where its result is"
        )
    if table is None:
        what = done.statement_type or "this statement"
        raise InvalidTask(
            f"the task declares an output, and {what} leaves no result table; end the query with "
            "a SELECT, or declare no output"
        )
    return table


def _is_script(done: JobResource) -> bool:
    return done.statement_type == "SCRIPT" or bool(done.children)


def _own_table(done: JobResource) -> Table | None:
    target = done.query.get("ddlTargetTable")
    # CREATE VIEW names a view as its destination too (googleapis/google-cloud-java#3469), and what
    # reads tables for Flyte reads no views.
    if done.statement_type.endswith("VIEW"):
        return None
    # DROP TABLE has a target too, which is no result.
    if done.statement_type == "CREATE_TABLE_AS_SELECT" and target:
        return Table.model_validate(target)
    return done.configuration.query.destination_table


async def _key_result(job: BigQueryJob, done: JobResource, call: Call) -> Table:
    """What BigQuery too shows as a script's result: its last SELECT, or the first if asked for."""
    children = await child_jobs(job, call)
    first = done.configuration.query.script_options.key_result_statement == "FIRST_SELECT"
    if first and len(children) < done.children:
        raise InvalidTask(
            f"the script ran {done.children} statements, too many to look for its first SELECT; "
            "leave keyResultStatement out of its scriptOptions, and end it with that SELECT"
        )
    tables = [
        child.configuration.query.destination_table
        for child in children
        if child.statement_type == "SELECT"
        and child.status.error_result is None
        and _is_statement(child)
    ]
    found = [table for table in tables if table is not None]
    if not found:
        raise InvalidTask(
            "the task declares an output, and no statement of the script is a SELECT that "
            "succeeded; end the script with one, or declare no output"
        )
    return found[0 if first else -1]


def _is_statement(child: JobResource) -> bool:
    """Not the query in `IF EXISTS (SELECT ...)` or `SET x = (SELECT ...)`."""
    script = child.statistics.get("scriptStatistics") or {}
    return script.get("evaluationKind") != "EXPRESSION"


def _dataset(table: Table, of: Type) -> StructuredDataset:
    # flytekit splits it at "://", ":" and "." and takes exactly four parts.
    # A destination may be a partition, `events$20250502`; its decorator is no part of the name.
    name = table.table_id.partition("$")[0]
    uri = f"bq://{table.project_id}:{table.dataset_id}.{name}"
    return StructuredDataset(uri, of.columns, of.format)
