"""Which jobs of earlier attempts are history."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from flyteagents._status import Phase, Status


def history(status: Status, timeout: timedelta | None) -> bool:
    """Whether a job is over and done with: failed, stopped, being stopped, or running for
    longer than the task's timeout, which is why Flyte began the next attempt."""
    if status.cancelling or status.phase in (Phase.FAILED, Phase.RETRYABLE_FAILED, Phase.ABORTED):
        return True
    if status.phase is Phase.SUCCEEDED or timeout is None or status.started is None:
        return False
    return datetime.now(timezone.utc) - status.started > timeout
