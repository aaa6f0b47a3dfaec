"""The task's `custom`, as flytekit's and flyte-sdk's BigQueryTask and the older Go plugin write it.

Both SDKs put the contents of `QueryJobConfig`'s "query" at the top level, beside their own keys.
What is beside "query" in a job's configuration (labels, timeout, ...) they drop; it is read here
all the same, for tasks that have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from flyteagents.kit.configs import ConfigPart
from flyteagents_bigquery.names import Location, Project

# The Go plugin took these in any case.
_OURS = {"projectid": "ProjectID", "location": "Location", "domain": "Domain"}
# What has no part in a query's result, so that jobs which differ in it are the same work.
_INCIDENTAL = frozenset(
    {"Location", "Domain", "labels", "jobTimeoutMs", "reservation", "maxSlots", "priority"}
)
NOT_SENT = {
    "jobType": "the agent's jobs are queries",
    "query": "the statement is the task's own",
}
"""Keys of a job's whole configuration that have no place beside a task's, and why."""


class BigQueryConfig(ConfigPart):
    """Keys without a field here are passed on to BigQuery, which says so if it has no such key."""

    model_config = ConfigDict(extra="allow")

    project: Project | None = Field(None, alias="ProjectID")
    location: Location | None = Field(None, alias="Location")
    domain: str | None = Field(None, alias="Domain")

    labels: Mapping[str, str] = Field({}, alias="labels")
    dry_run: bool = Field(False, alias="dryRun")
    timeout_ms: int | None = Field(None, alias="jobTimeoutMs", ge=0)
    reservation: str | None = None
    max_slots: int | None = Field(None, alias="maxSlots")

    parameters: list[dict[str, Any]] = Field([], alias="queryParameters")
    mode: Literal["NAMED", "POSITIONAL"] | None = Field(None, alias="parameterMode")

    datetimes: Literal["DATETIME", "TIMESTAMP"] = Field("DATETIME", alias="datetimeParamType")
    """Flyte has one type for points in time. DATETIME is what the other connectors send."""
    durations: Literal["INTERVAL", "INT64"] = Field("INTERVAL", alias="durationParamType")
    """INT64 is in microseconds."""
    structs: Literal["JSON", "STRUCT"] = Field("JSON", alias="structParamType")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {_OURS.get(name.lower(), name): value for name, value in values.items()}

    @property
    def query(self) -> dict[str, Any]:
        """The other keys of the configuration's "query". BigQuery's begin in lower case."""
        extra = self.model_extra or {}
        return {
            name: value
            for name, value in extra.items()
            if name[:1].islower() and name not in NOT_SENT
        }

    def work(self) -> dict[str, Any]:
        """What of it says what the job does."""
        values = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return {name: value for name, value in values.items() if name not in _INCIDENTAL}
