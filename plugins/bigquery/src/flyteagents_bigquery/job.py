"""What names a job to BigQuery, and what flytekit's and flyte-sdk's connectors wrote for theirs."""

from __future__ import annotations

from pydantic import Field

from flyteagents import Job
from flyteagents_bigquery.names import JobId, Location, Project


class BigQueryJob(Job):
    """The names are those of flytekit's connector, whose jobs are taken over as they are.

    location: None only where another connector did not ask BigQuery for it.
    user_agent: written by flyte-sdk's connector, read and not kept.
    dry_bytes: a dry run is no job at BigQuery; this is all that came of it.
    """

    job_id: JobId
    project: Project
    location: Location | None = None
    user_agent: str | None = Field(None, max_length=500, exclude=True)
    dry_bytes: int | None = None

    @property
    def path(self) -> str:
        return f"/projects/{self.project}/jobs/{self.job_id}"

    def __str__(self) -> str:
        return f"{self.project}:{self.location or '?'}.{self.job_id}"
