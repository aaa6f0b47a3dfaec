"""Spans, with one trace for all calls about one task.

Flyte sends no trace context. So the ids follow from what all calls about a task have in common,
and every replica joins the same trace without being told.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from threading import Lock
from types import TracebackType
from typing import TypeVar

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flyteagents._telemetry.redact import redact

Attribute = str | bool | int | float | Sequence[str]
CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
_SERVER_FAULTS = frozenset(
    ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)
_CALL = contexts.create_key("flyteagents-call")
_fixed: ContextVar[tuple[int, int] | None] = ContextVar("fixed_ids", default=None)
_W3C = TraceContextTextMapPropagator()
CurrentT = TypeVar("CurrentT", bound="CurrentSpan")


def trace_id(task_prefix: str) -> int:
    """The trace of the task whose attempts' output prefixes all begin with `task_prefix`."""
    digest = hashlib.sha256(b"flyteagents/trace\0" + task_prefix.encode("utf-8", "replace"))
    return int.from_bytes(digest.digest()[:16], "big") or 1


def root_span_id(key_hex: str) -> int:
    """The span that covers the whole life of the attempt with this key."""
    digest = hashlib.sha256(b"flyteagents/root\0" + key_hex.encode())
    return int.from_bytes(digest.digest()[:8], "big") or 1


class Ids(RandomIdGenerator):
    """Random ids, but for a span that is to have given ones."""

    def generate_trace_id(self) -> int:
        fixed = _fixed.get()
        return fixed[0] if fixed else super().generate_trace_id()

    def generate_span_id(self) -> int:
        fixed = _fixed.get()
        return fixed[1] if fixed else super().generate_span_id()


class CallSpans(SpanProcessor):
    """Holds the spans that end within a call until the call knows whether they are wanted.

    Bounded: at most LIMIT spans for each running call, and the calls are bounded by admission.
    What ends after its call, detached, or beyond the limit, goes on at once.
    """

    LIMIT = 64

    def __init__(self, onward: Sequence[SpanProcessor]) -> None:
        self._onward = onward
        self._lock = Lock()
        self._call_of: dict[int, _Held] = {}

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        held = contexts.get_value(_CALL, parent_context)
        context = span.get_span_context()
        if not isinstance(held, _Held) or context is None:
            return
        with self._lock:
            if held.open and len(held.ids) < self.LIMIT:
                held.ids.append(context.span_id)
                self._call_of[context.span_id] = held

    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        with self._lock:
            held = self._call_of.pop(context.span_id, None) if context else None
            if held is not None:
                held.spans.append(span)
        if held is None:
            self._forward(span)

    def settle(self, held: _Held, keep: bool) -> None:
        """The call ends: forward what was held, or drop it."""
        with self._lock:
            held.open = False
            for span_id in held.ids:
                self._call_of.pop(span_id, None)
        for span in held.spans if keep else ():
            self._forward(span)

    def _forward(self, span: ReadableSpan) -> None:
        for processor in self._onward:
            processor.on_end(span)

    def shutdown(self) -> None:
        for processor in self._onward:
            processor.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return all(each.force_flush(timeout_millis) for each in self._onward)


class _Held:
    __slots__ = ("ids", "open", "spans")

    def __init__(self) -> None:
        self.open = True
        self.ids: list[int] = []
        self.spans: list[ReadableSpan] = []


class CurrentSpan:
    """A span that is the current one within a `with` block, and ends with it."""

    __slots__ = ("_context", "_token", "span")

    def __init__(self, span: Span, context: Context) -> None:
        self.span = span
        self._context = context

    @property
    def context(self) -> SpanContext:
        return self.span.get_span_context()

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        if self.span.is_recording():
            self.span.set_attributes(attributes)

    def __enter__(self: CurrentT) -> CurrentT:
        self._token = contexts.attach(self._context)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        contexts.detach(self._token)
        if error is not None and self.span.is_recording():
            self._failed(error)
        self.span.end()

    def _failed(self, error: BaseException) -> None:
        # No exception event: it would carry a traceback, and the log has the error already.
        self.span.set_attribute("error.type", type(error).__name__)
        if not isinstance(error, asyncio.CancelledError):
            self.span.set_status(Status(StatusCode.ERROR, redact(str(error))[:400]))


class ServerSpan(CurrentSpan):
    """The span of one RPC. `keep_children = False` drops the spans that ended within the call."""

    __slots__ = ("_calls", "_code", "_held", "keep_children")

    def __init__(
        self, span: Span, context: Context, calls: CallSpans | None, held: _Held | None
    ) -> None:
        super().__init__(span, context)
        self.keep_children = True
        self._code = ""
        self._calls = calls
        self._held = held

    def set_status(self, code: str, message: str = "") -> None:
        """The gRPC status that the caller gets ("NOT_FOUND"). Only what is the server's fault
        makes the span an error, as the semantic conventions have it."""
        self._code = code
        if not self.span.is_recording():
            return
        self.span.set_attribute("rpc.response.status_code", code)
        self.span.set_attribute("rpc.grpc.status_code", CODES.index(code) if code in CODES else 2)
        if code in _SERVER_FAULTS:
            self.span.set_attribute("error.type", code)
            self.span.set_status(Status(StatusCode.ERROR, redact(message)[:400]))

    def _failed(self, error: BaseException) -> None:
        if not self._code:
            cancelled = isinstance(error, asyncio.CancelledError)
            self.set_status("CANCELLED" if cancelled else "UNKNOWN", str(error))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None and not self._code:
            self.set_status("OK")
        if self._calls is not None and self._held is not None:
            self._calls.settle(self._held, self.keep_children)
        super().__exit__(kind, error, traceback)


class Tracing:
    """Makes the kernel's spans. `calls` is None where no exporter is configured: then the ids
    are there for the logs, and nothing is recorded."""

    def __init__(self, tracer: Tracer, sampler: Sampler, calls: CallSpans | None) -> None:
        self.tracer = tracer
        self._sampler = sampler
        self._calls = calls

    def task_context(self, trace_id: int, root: int) -> Context:
        """The parent of all spans of one attempt: its root span, which is sent when it ends.

        The configured sampler decides here, by the trace id, so all replicas decide alike."""
        decision = self._sampler.should_sample(None, trace_id, "task").decision
        flags = TraceFlags(
            TraceFlags.SAMPLED if decision is Decision.RECORD_AND_SAMPLE else TraceFlags.DEFAULT
        )
        parent = SpanContext(trace_id, root, is_remote=True, trace_flags=flags)
        return set_span_in_context(NonRecordingSpan(parent), Context())

    def server_span(
        self,
        rpc_service: str,
        rpc_method: str,
        *,
        context: Context | None = None,
        incoming: str | None = None,
        start_time_ns: int | None = None,
        attributes: Mapping[str, Attribute] | None = None,
    ) -> ServerSpan:
        """The span of an RPC. `context` comes from `task_context`, None begins a trace;
        `incoming` is the caller's `traceparent`, which becomes a link."""
        name = f"{rpc_service}/{rpc_method}"
        context = Context() if context is None else context
        # The names of today first, then those that dashboards of yesterday ask for.
        span = self.tracer.start_span(
            name,
            context=context,
            kind=SpanKind.SERVER,
            attributes={
                "rpc.system.name": "grpc",
                "rpc.method": name,
                "rpc.system": "grpc",
                "rpc.service": rpc_service,
                **(attributes or {}),
            },
            links=_links(incoming),
            start_time=start_time_ns,
        )
        held = _Held() if self._calls is not None and span.is_recording() else None
        current = set_span_in_context(span, context)
        if held is not None:
            current = contexts.set_value(_CALL, held, current)
        return ServerSpan(span, current, self._calls, held)

    def operation_span(self, agent: str, operation: str) -> CurrentSpan:
        """The span of an agent's own work within a call, or detached from it."""
        span = self.tracer.start_span(
            f"{operation} {agent}",
            attributes={"flyte.agent": agent, "flyte.operation": operation},
        )
        return CurrentSpan(span, set_span_in_context(span))

    def root_span(
        self,
        trace_id: int,
        key: str,
        name: str,
        start: float,
        end: float,
        attributes: Mapping[str, Attribute],
        ok: bool,
        message: str = "",
    ) -> None:
        """Send the span that covers the job's whole life; `start` and `end` in epoch seconds.
        Sent twice, it is the same span."""
        token = _fixed.set((trace_id, root_span_id(key)))
        try:
            span = self.tracer.start_span(
                name, context=Context(), attributes=attributes, start_time=int(start * 1e9)
            )
        finally:
            _fixed.reset(token)
        if not ok:
            span.set_status(Status(StatusCode.ERROR, redact(message)[:400]))
        span.end(int(max(start, end) * 1e9))


def _links(traceparent: str | None) -> Sequence[Link]:
    if not traceparent:
        return ()
    context = _W3C.extract({"traceparent": traceparent}, Context())
    caller = get_current_span(context).get_span_context()
    return (Link(caller),) if caller.is_valid else ()
