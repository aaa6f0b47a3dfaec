"""How a job is doing, from quarry's states."""

from __future__ import annotations

from collections.abc import Mapping

from flyteagents import Name, Phase
from flyteagents.kit.answers import AnswerPart

PHASES = {
    "QUEUED": Phase.INITIALIZING,
    "RUNNING": Phase.RUNNING,
    "STOPPING": Phase.RUNNING,
    "STOPPED": Phase.ABORTED,
    "SUCCEEDED": Phase.SUCCEEDED,
    "FAILED": Phase.FAILED,
}


class Statement(AnswerPart):
    """What quarry answers about a job.

    table: where the result is. log: its lines.
    """

    id: Name
    state: str
    tags: Mapping[str, str] = {}
    error: str = ""
    code: str = ""
    table: str | None = None
    log: list[str] = []
    rows: int | None = None
