"""What is recorded of an attempt at its start and at its end: a log line at each, a count by final
phase, its vendor's numbers, and the root span of its trace.

Every way to an end comes by here: a job's, seen by a poll; one that was parked at create; a
synchronous agent's work; a cancel. Other spans name the root span as their parent, so a trace
without it looks broken. No line has a statement or an input.
"""

from __future__ import annotations

import time
from typing import Any

from flyteagents._kernel.answers import Answer
from flyteagents._kernel.envelope import Envelope
from flyteagents._kernel.kernel import Kernel, log
from flyteagents._status import Phase, Status
from flyteagents._telemetry.tracing import task_attributes, trace_id


def record_start(envelope: Envelope) -> None:
    """The attempt has a job."""
    word = "took over" if envelope.adopted else "started"
    log.info("%s: %s job %s", envelope.task_type, word, _named(envelope), extra=_fields(envelope))


def record_end(
    kernel: Kernel, envelope: Envelope, answer: Answer, status: Status | None = None
) -> None:
    """The attempt has ended with `answer`; `status` is what its vendor said, if it did."""
    task_type, phase = envelope.task_type, answer.phase.name
    ended = time.time()
    started = ended
    attributes: dict[str, Any] = task_attributes(task_type, envelope.identity)
    attributes |= {"flyte.phase": phase, "flyte.adopted": envelope.adopted}
    if status is not None:
        if status.started is not None:
            started = status.started.timestamp()
            attributes["flyte.job.queue_seconds"] = max(started - envelope.created, 0.0)
        if status.ended is not None:
            ended = status.ended.timestamp()
        attributes |= {f"flyte.job.{name}": value for name, value in status.statistics.items()}
        kernel.telemetry.metrics.job_statistics(task_type, status.statistics)

    kernel.telemetry.metrics.jobs.add(kernel.label(task_type), phase)
    seconds = max(ended - (envelope.created or started), 0.0)
    extra = _fields(envelope) | {"phase": phase, "seconds": round(seconds, 3)}
    if status is not None and status.code:
        extra["error_code"] = status.code
    log.info("%s: job %s ended %s", task_type, _named(envelope), phase, extra=extra)

    kernel.telemetry.tracing.job(
        int(envelope.trace or "0", 16) or trace_id(envelope.key),
        envelope.key,
        f"job {task_type}",
        start=min(envelope.created or started, started),
        end=ended,
        attributes=attributes,
        failure=None if answer.phase is Phase.SUCCEEDED else answer.message,
    )


def _named(envelope: Envelope) -> str:
    """The job's fields, or that there is none."""
    job = envelope.job or {}
    return " ".join(f"{name}={value}" for name, value in job.items()) or "(none)"


def _fields(envelope: Envelope) -> dict[str, Any]:
    """What a log line is searched by."""
    return {
        "execution": f"{envelope.project}/{envelope.domain}/{envelope.execution}",
        "node": envelope.node,
        "attempt": envelope.attempt,
        "task_trace": envelope.trace,
    }
