"""The body of jobs.insert.

https://cloud.google.com/bigquery/docs/reference/rest/v2/Job
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flyteagents import InvalidTask, Task
from flyteagents.kit.limits import time_limit
from flyteagents_bigquery import places
from flyteagents_bigquery.config import BigQueryConfig
from flyteagents_bigquery.job import BigQueryJob
from flyteagents_bigquery.labels import job_labels
from flyteagents_bigquery.parameters import query_parameters
from flyteagents_bigquery.settings import BigQuerySettings


def named_job(task: Task[BigQueryConfig], settings: BigQuerySettings) -> BigQueryJob:
    """The job of the task's key, its location as far as it is known. Raises InvalidTask."""
    project = task.config.project or settings.project
    if project is None:
        raise InvalidTask(
            "the task names no project: give its BigQueryConfig a ProjectID, or the service "
            "GOOGLE_CLOUD_PROJECT"
        )
    return BigQueryJob(
        job_id=f"flyte-{task.key.hex}",
        project=project,
        location=places.of_new(task.config, settings),
    )


def insert_body(task: Task[BigQueryConfig], job: BigQueryJob) -> dict[str, Any]:
    """Everything that the task says, as BigQuery has it. Raises InvalidTask."""
    if not task.statement.strip():
        raise InvalidTask("the task has no SQL statement")

    config = task.config
    # BigQuery's own default is legacy SQL; a task that asks for that gets it.
    query = {"useLegacySql": False, **config.query, "query": task.statement}
    parameters = query_parameters(task.inputs, task.interface, config)
    if parameters:
        query["queryParameters"] = parameters
    if parameters or config.mode:
        query["parameterMode"] = config.mode or "NAMED"

    timeout, limit = config.timeout_ms, time_limit(task.timeout)
    if timeout is None and limit is not None:
        timeout = limit // timedelta(milliseconds=1)

    configuration: dict[str, Any] = {
        "query": query,
        "labels": job_labels(task),
        "dryRun": config.dry_run or None,
        # BigQuery writes 64-bit integers as text.
        "jobTimeoutMs": None if timeout is None else str(timeout),
        "reservation": config.reservation,
        "maxSlots": config.max_slots,
    }
    reference = {"projectId": job.project, "jobId": job.job_id, "location": job.location}
    return {"jobReference": _given(reference), "configuration": _given(configuration)}


def dry_run_body(task: Task[BigQueryConfig], job: BigQueryJob) -> dict[str, Any]:
    """The same work as a question: BigQuery starts nothing, and says where it would run it."""
    configuration = insert_body(task, job)["configuration"]
    return {
        "jobReference": _given({"projectId": job.project, "location": job.location}),
        "configuration": {**configuration, "dryRun": True},
    }


def hint(statement: str) -> str:
    """What may be wrong with a statement that BigQuery rejects, to be put after its words."""
    if "{{" in statement:
        return " | inputs are query parameters: write @name instead of a template"
    if "--" in statement and "\n" not in statement.strip():
        # Both SDKs join the lines of a query.
        return " | the SDK made one line of the query, and -- comments out its rest; use /* */"
    return ""


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
