"""What names a job."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from flyteagents import Job


class DuckDBJob(Job):
    """A job: its key, and the data directory that it is in."""

    key: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16,64}$")]
    data: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
