"""The kernel's spans, with one trace for all calls about one task.

Flyte sends no trace context. So the ids follow from what all calls about a task have in common,
and every replica joins the same trace without being told.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry.context import Context, attach, set_value
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flyteagents._redact import redact
from flyteagents._task import Identity
from flyteagents._telemetry.held_spans import CALL, Held, HoldingProcessor

SCOPE = "flyteagents"
OLD = 600.0
"""Seconds after which a poll that changes nothing is traced without its parts."""
_SERVER_FAULTS = frozenset(
    ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)
_W3C = TraceContextTextMapPropagator()


def trace_id(task_prefix: str) -> int:
    """The trace of the task whose attempts' output prefixes all begin with `task_prefix`."""
    digest = hashlib.sha256(b"flyteagents/trace\0" + task_prefix.encode("utf-8", "replace"))
    return int.from_bytes(digest.digest()[:16], "big") or 1


def root_span_id(key_hex: str) -> int:
    """The span that covers the whole life of the attempt with this key."""
    digest = hashlib.sha256(b"flyteagents/root\0" + key_hex.encode())
    return int.from_bytes(digest.digest()[:8], "big") or 1


def task_attributes(task_type: str, who: Identity) -> dict[str, Any]:
    """`flyte.*` attributes that say whose work it is."""
    return {
        "flyte.task_type": task_type, "flyte.project": who.project, "flyte.domain": who.domain,
        "flyte.execution": who.execution, "flyte.node": who.node, "flyte.attempt": who.attempt,
    }  # fmt: skip


class Tracing:
    """Makes the kernel's spans."""

    def __init__(self, provider: TracerProvider, spans: HoldingProcessor, version: str) -> None:
        self.tracer = provider.get_tracer(SCOPE, version)
        self.spans = spans
        self._provider = provider
        self._scope = InstrumentationScope(SCOPE, version)

    def attempt(self, trace: int, key: str) -> SpanContext:
        """The root span of an attempt, the parent of all its other spans. It is sent when the
        job ends, but the sampler decides now, by the trace id: the same on every replica."""
        decision = self._provider.sampler.should_sample(Context(), trace, "").decision
        flags = TraceFlags(decision is Decision.RECORD_AND_SAMPLE)
        return SpanContext(trace, root_span_id(key), is_remote=True, trace_flags=flags)

    @contextmanager
    def operation(self, agent: str, operation: str) -> Iterator[None]:
        """The span of an agent's own work within a call, or detached from it."""
        attributes = {"flyte.agent": agent, "flyte.operation": operation}
        with self.tracer.start_as_current_span(
            f"{operation} {agent}", attributes=attributes,
            record_exception=False, set_status_on_exception=False,
        ) as span:  # fmt: skip
            try:
                yield
            except BaseException as error:
                # No exception event: the log has the error, and the SERVER span its status.
                if not isinstance(error, asyncio.CancelledError):
                    _fail(span, type(error).__name__, str(error))
                raise

    def job(
        self, trace: int, key: str, name: str, start: float, end: float,
        attributes: Mapping[str, Any], failure: str | None,
    ) -> None:  # fmt: skip
        """Send the root span, which covers the job's whole life; `start` and `end` in epoch
        seconds. Sent twice, it is the same span."""
        context = self.attempt(trace, key)
        if context.trace_flags.sampled:
            status = Status() if failure is None else _error(failure)
            self.spans.on_end(
                ReadableSpan(
                    name, context, resource=self._provider.resource, attributes=attributes,
                    status=status, start_time=int(start * 1e9), end_time=int(max(start, end) * 1e9),
                    instrumentation_scope=self._scope,
                )
            )  # fmt: skip


class Rpc:
    """One RPC as its trace sees it. The span begins when the request is read, since the request
    says which trace it belongs to; it is dated back to the arrival."""

    def __init__(
        self, tracing: Tracing, service: str, method: str, metadata: Iterable[tuple[str, Any]]
    ) -> None:
        self.task_type = ""
        self.changed = True
        self._tracing = tracing
        self._name = f"{service}/{method}"
        self._traceparent = next((str(v) for k, v in metadata if k == "traceparent"), None)
        self._arrived = time.time_ns()
        self._created = 0.0
        self._held = Held()
        self._span: Span | None = None

    def begin(self, trace: int, key: str, task_type: str, who: Identity, created: float) -> None:
        """The request has been read: join the trace of its task."""
        self.task_type, self._created = task_type, created
        root = NonRecordingSpan(self._tracing.attempt(trace, key))
        self._start(set_span_in_context(root, Context()), task_attributes(task_type, who))

    def end(self, code: str, message: str) -> None:
        """The RPC has been answered with a gRPC status code ("NOT_FOUND"). Only what is the
        server's fault makes the span an error, as the semantic conventions have it."""
        span = self._span or self._start(Context(), {})  # a request that could not be read
        self._tracing.spans.settle(self._held, self.changed or time.time() - self._created < OLD)
        span.set_attribute("rpc.response.status_code", code)
        if code in _SERVER_FAULTS:
            _fail(span, code, message)
        span.end()

    def _start(self, parent: Context, attributes: dict[str, Any]) -> Span:
        attributes |= {"rpc.system.name": "grpc", "rpc.method": self._name}
        links = _links(self._traceparent)
        self._span = self._tracing.tracer.start_span(
            self._name, parent, SpanKind.SERVER, attributes, links, self._arrived
        )
        # Not detached: every RPC is a task of its own, and its context ends with it.
        attach(set_value(CALL, self._held, set_span_in_context(self._span, parent)))
        return self._span


def _fail(span: Span, kind: str, message: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(_error(message))


def _error(message: str) -> Status:
    return Status(StatusCode.ERROR, redact(message)[:400])


def _links(traceparent: str | None) -> list[Link]:
    if not traceparent:
        return []
    context = _W3C.extract({"traceparent": traceparent}, Context())
    caller = get_current_span(context).get_span_context()
    return [Link(caller)] if caller.is_valid else []
