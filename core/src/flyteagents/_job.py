"""The job model: what names a job to its vendor, and rides in `resource_meta`."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/+=-]{0,255}$")]
"""A vendor's identifier. It comes back over the wire and ends up in URLs, so it is checked."""


class Job(BaseModel):
    """Subclass with the fields that name one job at the vendor: ids, region, project.

    Keep it small (it is stored in etcd with the workflow) and free of secrets (Flyte logs it).
    It is validated again on every call, so give every field a narrow type, `Name` for ids. It must
    be the same afterwards, which is looked at when `create` returns it: a secret type or an
    excluded field would not.
    Unknown fields are an error: this is also what tells a job of another connector from noise.
    """

    # By name too: it rides under the names of its fields, whatever the vendor calls them.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True)


JobT = TypeVar("JobT", bound=Job)
