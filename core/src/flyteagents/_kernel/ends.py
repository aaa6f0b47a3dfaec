"""What is recorded of an attempt at its start and at its end: a log line at each, a count by final
phase, its vendor's numbers, and the root span of its trace.

Every way to an end comes by here: a job's, seen by a poll; one that was parked at create; a
synchronous agent's work; a cancel. Other spans name the root span as their parent, so a trace
without it looks broken. No line has a statement or an input; the span of the create has the
statement as its author wrote it, before inputs are bound.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from opentelemetry.trace import Span, get_current_span

from flyteagents._kernel.answers import Answer
from flyteagents._kernel.envelope import Envelope
from flyteagents._kernel.kernel import ERROR_ID, Kernel, log
from flyteagents._redact import excerpt
from flyteagents._status import Phase, Status
from flyteagents._task import Task
from flyteagents._telemetry.batched_lines import Event
from flyteagents._telemetry.tracing import task_attributes, trace_id

LATEST = 2.0**33
"""Seconds since the epoch, in the year 2242: no job ends later."""
STATEMENT_LIMIT = 400
"""Bytes of a statement in a span: enough to know it by."""


def record_start(envelope: Envelope, task: Task[Any]) -> None:
    """The attempt has a job."""
    word = "took over" if envelope.adopted else "started"
    name = _named(envelope)
    fields = _fields(envelope) | {"task": task.identity.task}
    span = get_current_span()  # the RPC's
    _tell(f"{envelope.task_type}: {word} job {name}", fields, span)

    if span.is_recording():
        span.set_attribute("flyte.job", name)
        if task.statement:
            span.set_attribute("flyte.statement", excerpt(task.statement, STATEMENT_LIMIT))


def record_end(
    kernel: Kernel, envelope: Envelope, answer: Answer, status: Status | None = None
) -> None:
    """The attempt has ended with `answer`; `status` is what its vendor said, if it did."""
    task_type, phase = envelope.task_type, answer.phase.name
    ended = time.time()
    started = ended
    attributes: dict[str, Any] = task_attributes(task_type, envelope.identity)
    attributes |= {"flyte.phase": phase, "flyte.adopted": envelope.adopted}
    if envelope.job is not None:
        attributes["flyte.job"] = _named(envelope)
    if status is not None:
        began = seconds_of(status.started)
        if began is not None:
            started = began
            # Two clocks, and a job that was taken over began before this attempt.
            attributes["flyte.job.queue_seconds"] = max(started - envelope.created, 0.0)
        ended = seconds_of(status.ended) or ended
        statistics = {
            name: value
            for name, value in status.statistics.items()
            if isinstance(name, str) and isinstance(value, bool | int | float | str)
        }
        attributes |= {f"flyte.job.{name}": value for name, value in statistics.items()}
        kernel.telemetry.metrics.job_statistics(task_type, statistics)

    kernel.telemetry.metrics.jobs.add(kernel.label(task_type), phase)
    # `created` is 0 where another connector wrote the envelope.
    seconds = max(ended - (envelope.created or started), 0.0)
    fields = _fields(envelope) | {"phase": phase, "seconds": round(seconds, 3)}
    if answer.phase is not Phase.SUCCEEDED:
        fields |= _error(kernel, task_type, answer.message, status)
    _tell(f"{task_type}: job {_named(envelope)} ended {phase}", fields, get_current_span())

    kernel.telemetry.tracing.job(
        int(envelope.trace or "0", 16) or trace_id(envelope.key),
        envelope.key,
        f"job {task_type}",
        start=min(envelope.created or started, started),
        end=ended,
        attributes=attributes,
        failure=None if answer.phase is Phase.SUCCEEDED else answer.message,
    )


def seconds_of(moment: datetime | None) -> float | None:
    """A vendor's moment since the epoch; None for one that stands for none: the year 1 in JSON of
    Go and .NET, the year 9999. A span of such a time could not be sent."""
    seconds = 0.0 if moment is None else moment.timestamp()
    return seconds if 0 < seconds < LATEST else None


def _error(kernel: Kernel, task_type: str, text: str, status: Status | None) -> dict[str, str]:
    """What an error is searched by: its vendor's code and, for a bug, the id of the line with its
    traceback. The user's text has both, so who was sent that finds this line."""
    served = kernel.agents.get(task_type)
    code = status.code if status is not None else served.code_in(text) if served else ""
    bug = ERROR_ID.search(text)
    named = {"error_code": code, "error_id": bug and bug[1]}
    return {name: value for name, value in named.items() if value}


def _tell(text: str, fields: Mapping[str, Any], span: Span) -> None:
    """A line of the log."""
    if log.isEnabledFor(logging.INFO):
        log.handle(Event(log, text, fields, span))


def _named(envelope: Envelope) -> str:
    """The job's fields, or that there is none."""
    job = envelope.job or {}
    return " ".join([f"{name}={value}" for name, value in job.items()]) or "(none)"


def _fields(envelope: Envelope) -> dict[str, Any]:
    """What a log line is searched by."""
    return {
        "execution": f"{envelope.project}/{envelope.domain}/{envelope.execution}",
        "node": envelope.node,
        "attempt": envelope.attempt,
        "task_trace": envelope.trace,
    }
