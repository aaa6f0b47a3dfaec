"""The kernel's spans, with one trace for all calls about one task.

Flyte sends no trace context. So the ids follow from what all calls about a task have in common,
and every replica joins the same trace without being told.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_tracer,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flyteagents._errors import text_of
from flyteagents._redact import redact
from flyteagents._task import Identity
from flyteagents._telemetry.held_spans import CALL, Held, HoldingProcessor, held_around
from flyteagents._telemetry.late_spans import SPAN, CommonAttributes, Current, LateSpan, Origin

SCOPE = "flyteagents"
VENDOR_SCOPE = "flyteagents.http"
OLD = 600.0
"""Seconds after which a poll that changes nothing is traced without its parts."""
_SERVER_FAULTS = frozenset(
    ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)
_W3C = TraceContextTextMapPropagator()
_UNSEEN = nullcontext(INVALID_SPAN)
"""In place of a span that nobody will see. What is within it goes on under the span around it."""
Metadata = Callable[[], Iterable[tuple[str, Any]] | None]


def trace_id(task_prefix: str) -> int:
    """The trace of the task whose attempts' output prefixes all begin with `task_prefix`."""
    digest = hashlib.sha256(b"flyteagents/trace\0" + task_prefix.encode("utf-8", "replace"))
    # Zero is no valid id (W3C Trace Context).
    return int.from_bytes(digest.digest()[:16], "big") or 1


def root_span_id(key_hex: str) -> int:
    """The span that covers the whole life of the attempt with this key."""
    digest = hashlib.sha256(b"flyteagents/root\0" + key_hex.encode())
    return int.from_bytes(digest.digest()[:8], "big") or 1


def task_attributes(task_type: str, who: Identity) -> dict[str, Any]:
    """`flyte.*` attributes that say whose work it is. Only CreateTask tells the task's name."""
    attributes: dict[str, Any] = {
        "flyte.task_type": task_type[:256],  # of any length, where no agent serves it
        "flyte.project": who.project,
        "flyte.domain": who.domain,
        "flyte.execution": who.execution,
        "flyte.node": who.node,
        "flyte.attempt": who.attempt,
    }
    if who.task:
        attributes["flyte.task"] = who.task
    return attributes


@dataclass(eq=False, slots=True)
class Attempt:
    """What all spans of one attempt have in common. root: None where nobody knows."""

    root: SpanContext | None
    sampled: bool
    task_type: str = ""
    created: float = 0.0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    _polled: tuple[str, CommonAttributes] | None = None

    def of_rpc(self, name: str) -> CommonAttributes:
        """The attributes of an RPC's span, once it has been answered OK. Those of the last one are
        kept: nearly all RPCs about an attempt are the same poll again and again."""
        if self._polled is None or self._polled[0] != name:
            rpc = {
                "rpc.system.name": "grpc",
                "rpc.method": name,
                "rpc.response.status_code": "OK",
            }
            self._polled = name, CommonAttributes({**self.attributes, **rpc})
        return self._polled[1]


class Tracing:
    """Makes the kernel's spans."""

    def __init__(self, provider: TracerProvider, spans: HoldingProcessor, version: str) -> None:
        self.tracer = provider.get_tracer(SCOPE, version)
        self.spans = spans
        self.own = Origin(provider, InstrumentationScope(SCOPE, version), spans.on_end)
        self.vendor = Origin(provider, InstrumentationScope(VENDOR_SCOPE), spans.on_end)
        self.unread = Attempt(None, sampled=not self.own.off)
        self._operations: dict[tuple[str, str], tuple[str, CommonAttributes]] = {}

    def root(self, trace: int, key: str) -> SpanContext:
        """The root span of an attempt, the parent of all its other spans. It is sent when the
        job ends, but the sampler decides now, by the trace id: the same on every replica."""
        flags = self.own.sampled(trace)
        return SpanContext(trace, root_span_id(key), is_remote=True, trace_flags=flags)

    def attempt(
        self, trace: int, key: str, task_type: str, who: Identity, created: float
    ) -> Attempt:
        """What all calls about one attempt have in common; `created` in epoch seconds."""
        root = self.root(trace, key)
        sampled = bool(root.trace_flags & TraceFlags.SAMPLED)
        return Attempt(root, sampled, task_type, created, task_attributes(task_type, who))

    def operation(self, agent: str, operation: str) -> AbstractContextManager[Span]:
        """The span of an agent's own work within a call, or detached from it. A look at a job
        that changed nothing goes without; what was within it is then right under the call's."""
        if self.own.off:
            return _UNSEEN
        around = get_current()
        current = _span_in(around)
        if isinstance(current, LateSpan) and not current.sampled:
            return _UNSEEN
        named = self._operations.get((agent, operation))
        if named is None:
            attributes = CommonAttributes({"flyte.agent": agent, "flyte.operation": operation})
            named = self._operations[agent, operation] = f"{operation} {agent}", attributes
        name, attributes = named
        held = held_around(current)
        span = self.own.start(name, _above(current), attributes=attributes, held=held)
        if isinstance(span, LateSpan):
            span.spare = operation == "get"
        return _Operation(span, around)

    def job(
        self,
        trace: int,
        key: str,
        name: str,
        start: float,
        end: float,
        attributes: Mapping[str, Any],
        failure: str | None,
    ) -> None:
        """Send the root span, which covers the job's whole life; `start` and `end` in epoch
        seconds. Sent twice, it is the same span."""
        context = self.root(trace, key)
        if context.trace_flags.sampled:
            self.spans.on_end(
                ReadableSpan(
                    name,
                    context,
                    resource=self.own.resource,
                    attributes=attributes,
                    status=Status() if failure is None else _error(failure),
                    start_time=int(start * 1e9),
                    end_time=int(max(start, end) * 1e9),
                    instrumentation_scope=self.own.scope,
                )
            )


class _Operation(Current):
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        detach(self._token)
        # No exception event: the log has the error, and the SERVER span its status.
        if error is not None and not isinstance(error, asyncio.CancelledError):
            _fail(self._span, type(error).__name__, text_of(error))
        self._span.end()


def vendor_span(name: str, attributes: Mapping[str, Any]) -> AbstractContextManager[Span]:
    """The span of a request to a vendor: of the call it is part of, or else, as in a command or a
    test, of the process's tracer."""
    around = get_current()
    current = _span_in(around)
    if isinstance(current, LateSpan) and not current.sampled:
        return _UNSEEN
    held = held_around(current)
    if held is not None:
        above = _above(current)
        span = held.vendor.start(name, above, SpanKind.CLIENT, attributes, held=held)
        return Current(span, around)
    return get_tracer(VENDOR_SCOPE).start_as_current_span(
        name,
        kind=SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    )


class Rpc:
    """One RPC as its trace sees it. The span begins when the request is read, since the request
    says which trace it belongs to; it is dated back to the arrival. `metadata` is asked for a
    caller's span, which becomes a link. `attempt` is what the request turned out to be about."""

    def __init__(self, tracing: Tracing, name: str, metadata: Metadata = tuple) -> None:
        self._tracing = tracing
        self._name = name
        self._metadata = metadata
        self._arrived = time.time_ns()
        self.attempt = tracing.unread
        self._span: Span | None = None
        self.changed = True

    def begin(self, attempt: Attempt) -> Span:
        """The request has been read: join the trace of its task."""
        self.attempt = attempt
        # Not detached, either of them: every RPC is a task of its own, and its context ends with
        # it.
        if not attempt.sampled:  # its ids are for the log alone
            self._span = self._tracing.own.start(self._name, attempt.root)
            attach(Context({SPAN: self._span}))
            return self._span
        self._held = Held(self._tracing.vendor)
        self._span = self._tracing.own.start(
            self._name,
            attempt.root,
            SpanKind.SERVER,
            attempt.of_rpc(self._name),
            _links(self._metadata() or ()),
            self._arrived,
            self._held,
        )
        attach(Context({SPAN: self._span, CALL: self._held}))
        return self._span

    def end(self, code: str, message: str) -> None:
        """The RPC has been answered with a gRPC status code ("NOT_FOUND"). Only what is the
        server's fault makes the span an error, as the semantic conventions have it."""
        span = self._span or self.begin(self._tracing.unread)  # it could not be read
        if not self.attempt.sampled:
            return
        young = self._arrived / 1e9 - self.attempt.created < OLD
        # Before its own span ends: that one is sent in any case, and must not be held.
        self._tracing.spans.settle(self._held, keep=self.changed or young, changed=self.changed)
        if code != "OK":
            span.set_attribute("rpc.response.status_code", code)
        if code in _SERVER_FAULTS:
            _fail(span, code, message)
        span.end()


def _fail(span: Span, kind: str, message: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(_error(message))


def _error(message: str) -> Status:
    return Status(StatusCode.ERROR, redact(message)[:400])


def _span_in(context: Context) -> Span:
    """As the API's `get_current_span`, which asks for the context anew."""
    span = context.get(SPAN)
    # Nearly all are ours, and to ask an abstract class takes a call more.
    return span if type(span) is LateSpan or isinstance(span, Span) else INVALID_SPAN


def _above(span: Span) -> SpanContext | None:
    """The parent of a span that starts within `span`."""
    context = span.get_span_context()
    return context if isinstance(span, LateSpan) or context.is_valid else None


def _links(metadata: Iterable[tuple[str, Any]]) -> Sequence[Link]:
    for key, value in metadata:
        if key == "traceparent":
            context = _W3C.extract({key: str(value)}, Context())
            caller = _above(_span_in(context))
            # No parent: the trace is the task's, whoever calls about it.
            return [Link(caller)] if caller else ()
    return ()
