"""What names a job to BigQuery, and what flytekit's and flyte-sdk's connectors wrote for theirs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from flyteagents import Fingerprint, Job
from flyteagents_bigquery.labels import FINGERPRINT
from flyteagents_bigquery.names import JobId, Location, Project
from flyteagents_bigquery.resource import JobResource


class BigQueryJob(Job):
    """The names are those of flytekit's connector, whose jobs are taken over as they are.

    location: None only where another connector did not ask BigQuery for it.
    fingerprint: of the work that it must be doing; None for another connector's. A job may be
        named before BigQuery was seen to have it, so this is looked at in each poll.
    user_agent: written by flyte-sdk's connector, read and not kept.
    dry_bytes: a dry run is no job at BigQuery; this is all that came of it.
    """

    job_id: JobId
    project: Project
    location: Location | None = None
    fingerprint: Annotated[str, StringConstraints(pattern=r"^[0-9a-f-]{1,63}$")] | None = None
    user_agent: str | None = Field(None, max_length=500, exclude=True)
    dry_bytes: int | None = None

    @property
    def path(self) -> str:
        return f"/projects/{self.project}/jobs/{self.job_id}"

    def is_ours(self, there: JobResource) -> bool:
        """Whether BigQuery's job of this id does the work that this one is for."""
        if self.fingerprint is None:
            return True
        label = there.configuration.labels.get(FINGERPRINT)
        return label is not None and Fingerprint(self.fingerprint).matches(label)

    def __str__(self) -> str:
        return f"{self.project}:{self.location or '?'}.{self.job_id}"
