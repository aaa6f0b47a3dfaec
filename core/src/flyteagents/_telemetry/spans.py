"""OpenTelemetry's tracer, made small.

Every poll makes three spans, so their cost counts: the SDK's span takes four times as long as
this one, adds a traceback to every error, and cannot have a given id or be taken back. Samplers,
processors and exporters are the SDK's.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context, create_key, get_value
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import Attributes, AttributeValue

from flyteagents._telemetry.redact import redact

if TYPE_CHECKING:
    from opentelemetry.util._decorator import _AgnosticContextManager

CALL = create_key("flyteagents-call")
_EVENTS = 32
_lock = Lock()


class Held:
    """The spans that ended within a call, until the call knows whether they are wanted.

    At most LIMIT for each running call. What ends after its call, detached, or beyond the
    limit, is sent at once."""

    LIMIT = 64

    def __init__(self) -> None:
        self._open = True
        self._spans: list[LiveSpan] = []

    def take(self, span: LiveSpan) -> bool:
        with _lock:
            taken = self._open and len(self._spans) < self.LIMIT
            if taken:
                self._spans.append(span)
        return taken

    def settle(self, keep: bool) -> None:
        """The call ends: send what was held, or drop it."""
        with _lock:
            self._open = False
        for span in self._spans if keep else ():
            span.send()
        self._spans.clear()


class LiveSpan(trace.Span):
    """A span that is recorded."""

    def __init__(
        self,
        tracer: SpanTracer,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Attributes,
        links: Sequence[trace.Link],
        start: int | None,
        held: Held | None,
    ) -> None:
        self._tracer = tracer
        self._name = name
        self._context = context
        self._parent = parent
        self._kind = kind
        self._attributes: dict[str, AttributeValue] = dict(attributes or ())
        self._links = list(links)
        self._events: list[Event] = []
        self._status = Status()
        self._start = start or time.time_ns()
        self._end = 0
        self._held = held

    def get_span_context(self) -> SpanContext:
        return self._context

    def is_recording(self) -> bool:
        return not self._end

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        self._attributes.update(attributes)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        self._attributes[key] = value

    def update_name(self, name: str) -> None:
        self._name = name

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        self._links.append(trace.Link(context, attributes))

    def add_event(
        self, name: str, attributes: Attributes = None, timestamp: int | None = None
    ) -> None:
        if len(self._events) < _EVENTS:
            self._events.append(Event(name, attributes, timestamp))

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        # Without the traceback, which is in the log.
        what = {
            "exception.type": type(exception).__name__,
            "exception.message": redact(str(exception)),
        }
        self.add_event("exception", {**what, **(attributes or {})}, timestamp)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        new = Status(status, description) if isinstance(status, StatusCode) else status
        if self._status.status_code is not StatusCode.OK and not new.is_unset:
            self._status = new

    def end(self, end_time: int | None = None) -> None:
        if self._end:
            return
        self._end = end_time or time.time_ns()
        if self._held is None or not self._held.take(self):
            self.send()

    def send(self) -> None:
        self._tracer.send(
            ReadableSpan(
                self._name,
                self._context,
                self._parent,
                self._tracer.resource,
                self._attributes,
                self._events,
                self._links,
                self._kind,
                status=self._status,
                start_time=self._start,
                end_time=self._end,
                instrumentation_scope=self._tracer.scope,
            )
        )


class SpanTracer(trace.Tracer):
    """Makes spans: recorded ones where the trace is sampled, else such that only carry ids."""

    def __init__(
        self,
        sampler: Sampler,
        processors: Sequence[SpanProcessor],
        resource: Resource,
        scope: InstrumentationScope,
    ) -> None:
        self.resource = resource
        self.scope = scope
        self._sampler = sampler
        self._processors = processors

    def sampled(self, trace_id: int) -> TraceFlags:
        """What the configured sampler says to a trace: the same on every replica."""
        decision = self._sampler.should_sample(None, trace_id, "").decision
        return TraceFlags(decision is Decision.RECORD_AND_SAMPLE)

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[trace.Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        *,
        ids: tuple[int, int] | None = None,
    ) -> trace.Span:
        """`ids` begins a trace with a given trace id and span id."""
        found = trace.get_current_span(context).get_span_context()
        parent = found if found.is_valid and ids is None else None
        trace_id, span_id = ids or (0, _random(64))
        if parent is not None:
            trace_id, flags = parent.trace_id, parent.trace_flags
        else:
            trace_id = trace_id or _random(128)
            flags = self.sampled(trace_id)
        state = parent.trace_state if parent is not None else None
        own = SpanContext(trace_id, span_id, False, flags, state)
        if not flags.sampled:
            return trace.NonRecordingSpan(own)
        held = get_value(CALL, context)
        return LiveSpan(
            self,
            name,
            own,
            parent,
            kind,
            attributes,
            links or (),
            start_time,
            held if isinstance(held, Held) else None,
        )

    def start_as_current_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[trace.Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> _AgnosticContextManager[trace.Span]:
        span = self.start_span(name, context, kind, attributes, links, start_time)
        return trace.use_span(span, end_on_exit, record_exception, set_status_on_exception)

    def send(self, span: ReadableSpan) -> None:
        for processor in self._processors:
            processor.on_end(span)


class SpanProvider(trace.TracerProvider):
    """The tracers of all libraries in the process that ask OpenTelemetry's API for one."""

    def __init__(
        self, sampler: Sampler, processors: Sequence[SpanProcessor], resource: Resource
    ) -> None:
        self._sampler = sampler
        self._processors = processors
        self._resource = resource

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> SpanTracer:
        scope = InstrumentationScope(
            instrumenting_module_name, instrumenting_library_version, schema_url, attributes
        )
        return SpanTracer(self._sampler, self._processors, self._resource, scope)

    def shutdown(self) -> None:
        for processor in self._processors:
            processor.shutdown()


def _random(bits: int) -> int:
    return random.getrandbits(bits) or 1
