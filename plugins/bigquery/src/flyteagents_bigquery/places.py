"""Where a job is: everything that decides about a location.

BigQuery keeps jobs by location and asks for it in every request about one; without it, it looks
into its multi-regions US and EU only. A new job goes where the task says, or the service's
settings; else BigQuery takes the place of the tables that the query reads, which only its answer
tells. That answer may be lost, so the refusal of a second insert is read for it as well.

https://cloud.google.com/bigquery/docs/locations#specify_locations
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from flyteagents_bigquery.config import BigQueryConfig
from flyteagents_bigquery.job import BigQueryJob
from flyteagents_bigquery.names import Location
from flyteagents_bigquery.resource import JobResource
from flyteagents_bigquery.settings import BigQuerySettings


def of_new(config: BigQueryConfig, settings: BigQuerySettings) -> Location | None:
    """Where a task's job will be; None where BigQuery picks the place."""
    return config.location or settings.location


def told(job: BigQueryJob, answer: JobResource) -> BigQueryJob:
    """The job with the location that BigQuery's answer has."""
    location = answer.job_reference.location or job.location
    return job.model_copy(update={"location": location})


def told_by_conflict(job: BigQueryJob, message: str) -> BigQueryJob:
    """The job with the location in `Already Exists: Job <project>:<location>.<id>`.

    The id is a hash, so it alone says which job is meant: a project that the task gives by its
    number is named by its id here, and one of a domain has a colon of its own.
    """
    found = re.search(rf":([A-Za-z0-9-]+)\.{re.escape(job.job_id)}\b", message)
    return job.model_copy(update={"location": found[1]}) if found else job


def to_look(job: BigQueryJob, settings: BigQuerySettings) -> Sequence[Location | None]:
    """Where to look for a job, most likely first. Other connectors did not always keep a
    location; then it is in a multi-region, or where the settings say."""
    if job.location is not None or settings.location is None:
        return (job.location,)
    return (None, settings.location)


def to_show(job: BigQueryJob, settings: BigQuerySettings) -> Location:
    """The location in a link to the job, which must have one."""
    return job.location or settings.location or "US"
