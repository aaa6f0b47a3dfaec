"""The kernel's spans: one for each RPC, and one for each job's whole life."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from flyteagents._kernel.envelope import Envelope
from flyteagents._status import Phase, Status
from flyteagents._task import Identity
from flyteagents._telemetry.providers import Telemetry
from flyteagents._telemetry.tracing import ServerSpan, root_span_id

OLD = 600.0
"""Seconds after which a poll that changes nothing is traced without its parts."""


class Rpc:
    """One RPC as its trace sees it. The span begins when the request is read, since the request
    says which trace it belongs to; it is dated back to the arrival."""

    def __init__(
        self, telemetry: Telemetry, service: str, method: str, metadata: Iterable[tuple[str, Any]]
    ) -> None:
        self.task_type = ""
        self.changed = True
        self._telemetry = telemetry
        self._names = (service, method)
        self._incoming = next((str(v) for k, v in metadata if k == "traceparent"), None)
        self._arrived = time.time_ns()
        self._created = 0.0
        self._span: ServerSpan | None = None

    def begin(self, trace: int, key: str, task_type: str, who: Identity, created: float) -> None:
        """The request has been read: join the trace of its task."""
        self.task_type, self._created = task_type, created
        tracing = self._telemetry.tracing
        self._span = tracing.server_span(
            *self._names,
            context=tracing.task_context(trace, root_span_id(key)),
            incoming=self._incoming,
            start_time_ns=self._arrived,
            attributes=task_attributes(task_type, who),
        )
        self._span.__enter__()

    def end(self, code: str, message: str) -> None:
        """The RPC has been answered with a gRPC status code."""
        span = self._span
        if span is None:  # the request was not readable
            span = self._telemetry.tracing.server_span(
                *self._names, incoming=self._incoming, start_time_ns=self._arrived
            )
            span.__enter__()
        span.keep_children = self.changed or time.time() - self._created < OLD
        span.set_status(code, message)
        span.__exit__(None, None, None)


def task_attributes(task_type: str, who: Identity) -> dict[str, str | int]:
    """`flyte.*` attributes that say whose work it is."""
    return {
        "flyte.task_type": task_type,
        "flyte.project": who.project,
        "flyte.domain": who.domain,
        "flyte.execution": who.execution,
        "flyte.node": who.node,
        "flyte.attempt": who.attempt,
    }


def job_ended(
    telemetry: Telemetry, envelope: Envelope, who: Identity, phase: Phase, message: str,
    status: Status | None,
) -> None:  # fmt: skip
    """Close the job's trace: the root span, with the vendor's own statistics."""
    started, ended = time.time(), time.time()
    attributes: dict[str, Any] = {**task_attributes(envelope.task_type, who)}
    attributes["flyte.phase"] = phase.name
    attributes["flyte.adopted"] = envelope.adopted
    if status is not None:
        if status.started is not None:
            started = status.started.timestamp()
            attributes["flyte.job.queue_seconds"] = max(started - envelope.created, 0.0)
        ended = status.ended.timestamp() if status.ended else ended
        for name, value in status.statistics.items():
            attributes[f"flyte.job.{name}"] = value
        telemetry.metrics.job_statistics(envelope.task_type, status.statistics)
    telemetry.tracing.root_span(
        int(envelope.trace or "0", 16) or 1,
        envelope.key,
        f"job {envelope.task_type}",
        min(envelope.created or started, started),
        ended,
        attributes,
        phase is Phase.SUCCEEDED,
        message,
    )
