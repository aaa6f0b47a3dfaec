"""What is recorded of a job that this replica first sees at its end: the root span of its trace,
and its vendor's numbers."""

from __future__ import annotations

import time
from typing import Any

from flyteagents._kernel.answers import Answer
from flyteagents._kernel.envelope import Envelope
from flyteagents._kernel.kernel import Kernel
from flyteagents._status import Phase, Status
from flyteagents._telemetry.tracing import task_attributes


def record_end(
    kernel: Kernel, envelope: Envelope, answer: Answer, status: Status | None = None
) -> None:
    """The job has ended with `answer`; `status` is what its vendor said, if it did."""
    task_type = envelope.task_type
    ended = time.time()
    started = ended
    attributes: dict[str, Any] = task_attributes(task_type, envelope.identity)
    attributes |= {"flyte.phase": answer.phase.name, "flyte.adopted": envelope.adopted}
    if status is not None:
        if status.started is not None:
            started = status.started.timestamp()
            attributes["flyte.job.queue_seconds"] = max(started - envelope.created, 0.0)
        if status.ended is not None:
            ended = status.ended.timestamp()
        attributes |= {f"flyte.job.{name}": value for name, value in status.statistics.items()}
        kernel.telemetry.metrics.job_statistics(task_type, status.statistics)
    kernel.telemetry.tracing.job(
        int(envelope.trace or "0", 16) or 1,
        envelope.key,
        f"job {task_type}",
        start=min(envelope.created or started, started),
        end=ended,
        attributes=attributes,
        failure=None if answer.phase is Phase.SUCCEEDED else answer.message,
    )
