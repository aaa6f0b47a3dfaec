"""How a job is doing, from quarry's states."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from flyteagents import Name, Phase

PHASES = {
    "QUEUED": Phase.INITIALIZING,
    "RUNNING": Phase.RUNNING,
    "STOPPING": Phase.RUNNING,
    "STOPPED": Phase.ABORTED,
    "SUCCEEDED": Phase.SUCCEEDED,
    "FAILED": Phase.FAILED,
}


class Statement(BaseModel):
    """What quarry answers about a job.

    table: where the result is. log: its lines.
    """

    id: Name
    state: str
    tags: Mapping[str, str] = {}
    error: str | None = None
    code: str | None = None
    table: str | None = None
    log: list[str] = []
    rows: int | None = None
