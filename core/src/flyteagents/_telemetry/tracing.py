"""The kernel's spans, with one trace for all calls about one task.

Flyte sends no trace context. So the ids follow from what all calls about a task have in common,
and every replica joins the same trace without being told.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TypeVar

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flyteagents._telemetry.redact import redact
from flyteagents._telemetry.spans import CALL, Held, SpanTracer

Attribute = str | bool | int | float | Sequence[str]
CurrentT = TypeVar("CurrentT", bound="CurrentSpan")
CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
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


class CurrentSpan:
    """A span that is the current one within a `with` block, and ends with it."""

    def __init__(self, span: Span, context: Context) -> None:
        self.span = span
        self._context = context

    def set(self, attributes: Mapping[str, Attribute]) -> None:
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
        # A stream that its caller leaves is closed in another context: nothing to restore there.
        if contexts.get_current() is self._context:
            contexts.detach(self._token)
        if error is not None:
            self._failed(error)
        self.span.end()

    def _failed(self, error: BaseException) -> None:
        # No exception event: the log has the error, and the SERVER span its status.
        self.span.set_attribute("error.type", type(error).__name__)
        if not isinstance(error, asyncio.CancelledError):
            self.span.set_status(Status(StatusCode.ERROR, redact(str(error))[:400]))


class ServerSpan(CurrentSpan):
    """The span of one RPC. `keep_children = False` drops the spans that ended within the call."""

    def __init__(self, span: Span, context: Context, held: Held | None) -> None:
        super().__init__(span, context)
        self.keep_children = True
        self._code = ""
        self._held = held

    def set_status(self, code: str, message: str = "") -> None:
        """The gRPC status that the caller gets ("NOT_FOUND"). Only what is the server's fault
        makes the span an error, as the semantic conventions have it."""
        self._code = code
        number = CODES.index(code) if code in CODES else CODES.index("UNKNOWN")
        self.set({"rpc.response.status_code": code, "rpc.grpc.status_code": number})
        if code in _SERVER_FAULTS:
            self.set({"error.type": code})
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
        if self._held is not None:
            self._held.settle(self.keep_children)
        super().__exit__(kind, error, traceback)


class Tracing:
    """Makes the kernel's spans."""

    def __init__(self, tracer: SpanTracer) -> None:
        self.tracer = tracer

    def task_context(self, trace_id: int, root: int) -> Context:
        """The parent of all spans of one attempt: its root span, which is sent when the job
        ends. The configured sampler decides here, by the trace id."""
        flags = self.tracer.sampled(trace_id)
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
        # The names of today first, then those that older dashboards ask for.
        rpc = {
            "rpc.system.name": "grpc",
            "rpc.method": name,
            "rpc.system": "grpc",
            "rpc.service": rpc_service,
        }
        span = self.tracer.start_span(
            name,
            context,
            SpanKind.SERVER,
            {**rpc, **attributes} if attributes else rpc,
            _links(incoming),
            start_time_ns,
        )
        current = set_span_in_context(span, context)
        held = Held() if span.is_recording() else None
        if held is not None:
            current = contexts.set_value(CALL, held, current)
        return ServerSpan(span, current, held)

    def operation_span(self, agent: str, operation: str) -> CurrentSpan:
        """The span of an agent's own work within a call, or detached from it."""
        attributes = {"flyte.agent": agent, "flyte.operation": operation}
        span = self.tracer.start_span(f"{operation} {agent}", attributes=attributes)
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
        span = self.tracer.start_span(
            name,
            Context(),
            attributes=attributes,
            start_time=int(start * 1e9),
            ids=(trace_id, root_span_id(key)),
        )
        if not ok:
            span.set_status(Status(StatusCode.ERROR, redact(message)[:400]))
        span.end(int(max(start, end) * 1e9))


def _links(traceparent: str | None) -> Sequence[Link]:
    if not traceparent:
        return ()
    context = _W3C.extract({"traceparent": traceparent}, Context())
    caller = get_current_span(context).get_span_context()
    return (Link(caller),) if caller.is_valid else ()
