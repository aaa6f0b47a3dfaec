"""Spans that are made when they end.

A span of the SDK takes 25 to 45 microseconds, since it can be asked and changed under a lock while
it runs; a poll has three, and there may be thousands of polls a second. These gather what is said
of them in plain attributes. Ended, they go to the SDK's processor as they are; the exporter's
thread encodes them (`otlp.py`), or makes the SDK's own `ReadableSpan` of them for an exporter that
we do not know. All else stays the SDK's: provider, resource, sampler, limits, exporters, variables.

`LATE = False` makes all of them the SDK's again; `tests/unit/test_late_spans.py` compares the two.
"""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, DEFAULT_ON, Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    INVALID_SPAN,
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.util.types import Attributes, AttributeValue

from flyteagents._errors import text_of

if TYPE_CHECKING:
    from flyteagents._telemetry.held_spans import Held

LATE = True
_EVENTS_LIMIT = 128  # the SDK's, where no variable says otherwise
_NONE: Mapping[str, AttributeValue] = MappingProxyType({})
_SIMPLE = frozenset((str, int, bool, float))
_UNSET = Status()
_SAMPLED, _DROPPED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)
# Where a context has its span. The API's own way to put one there makes a copy for each value.
(SPAN,) = set_span_in_context(INVALID_SPAN, Context())


class Origin:
    """Where spans of one scope come from, and `sink`, where they go when they end. off: nobody
    will ever see one."""

    def __init__(
        self,
        provider: TracerProvider,
        scope: InstrumentationScope,
        sink: Callable[[LateSpan], None],
    ) -> None:
        self.resource = provider.resource
        self.scope = scope
        self.sink = sink
        self.limits = SpanLimits()  # reads OTEL_SPAN_* and OTEL_ATTRIBUTE_*
        self._provider = provider
        # Most samplers are one of these, and to ask one takes as long as the rest of a span.
        self._flags: TraceFlags | None = None
        if provider.sampler in (ALWAYS_ON, DEFAULT_ON):
            self._flags = _SAMPLED
        elif provider.sampler is ALWAYS_OFF:
            self._flags = _DROPPED
        self.off = self._flags is _DROPPED

    def sampled(self, trace: int) -> TraceFlags:
        """The sampler decides by the trace's id, so all replicas decide alike."""
        if self._flags is not None:
            return self._flags
        decision = self._provider.sampler.should_sample(Context(), trace, "").decision
        return _SAMPLED if decision is Decision.RECORD_AND_SAMPLE else _DROPPED

    def start(
        self,
        name: str,
        parent: SpanContext | None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, AttributeValue] = _NONE,
        links: Sequence[Link] = (),
        start_time: int | None = None,
        held: Held | None = None,
    ) -> Span:
        """A span under `parent`, or the first of a new trace where that is none. `attributes` are
        not copied, so many spans can share them. held: where its call keeps it back."""
        if not LATE:
            tracer = self._provider.get_tracer(self.scope.name, self.scope.version)
            above = NonRecordingSpan(parent or INVALID_SPAN_CONTEXT)
            within = set_span_in_context(above, Context())
            return tracer.start_span(name, within, kind, attributes, links, start_time)
        span = LateSpan(self, name, parent, kind, attributes, links, start_time)
        span.held = held
        return span


class CommonAttributes(dict[str, AttributeValue]):
    """Attributes that many spans have in common, and what an exporter has encoded of them."""

    __slots__ = ("encoded",)

    def __init__(self, attributes: Mapping[str, AttributeValue]) -> None:
        super().__init__(attributes)
        self.encoded = b""


class LateSpan(NonRecordingSpan):
    """A span as the code within it sees it: agents and libraries may add to it.

    spare: its place may be taken by its parent when the call turns out to have changed nothing.
    held: where the call that it is of keeps its spans back.
    Its other names are those of a `ReadableSpan`, for what looks at both."""

    # Most spans are told nothing, so these are the class's until somebody does.
    spare = False
    held: Held | None = None
    context: SpanContext | None = None  # made when somebody asks, as a span within it does
    end_time: int | None = None
    status = _UNSET
    added: dict[str, AttributeValue] | None = None
    events: Sequence[Event] = ()
    _odd = False  # whether the SDK is to look at what was added

    def __init__(
        self,
        origin: Origin,
        name: str,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Mapping[str, AttributeValue],
        links: Sequence[Link],
        start: int | None,
    ) -> None:
        # Not the base's, which wants the id that is made when it is asked for.
        self.parent = parent
        self.origin = origin
        self.name = name
        self.kind = kind
        self.attributes = attributes
        self.links = links
        self.start_time = time.time_ns() if start is None else start
        # The sampler has decided with the root, and its flags say how.
        flags = _DROPPED if origin.off else (parent or self.get_span_context()).trace_flags
        self.sampled = bool(flags & TraceFlags.SAMPLED)

    def get_span_context(self) -> SpanContext:
        if self.context is None:
            # In one step: an agent's threads may ask as well, and all must be told the same.
            made: SpanContext = self.__dict__.setdefault("context", self._identified())
            return made
        return self.context

    @property
    def resource(self) -> Resource:
        return self.origin.resource

    @property
    def instrumentation_scope(self) -> InstrumentationScope:
        return self.origin.scope

    def _identified(self) -> SpanContext:
        parent = self.parent
        if parent is not None:
            trace, flags = parent.trace_id, parent.trace_flags
        else:
            trace = random.getrandbits(128) or 1  # an id
            flags = self.origin.sampled(trace)
        number = random.getrandbits(64) or 1  # an id
        return SpanContext(trace, number, is_remote=False, trace_flags=flags)

    def gives_way(self) -> bool:
        """Let whoever asks for its id from now on have its parent's. Not where somebody has it."""
        if self.context is not None or self.parent is None:
            return False
        self.context = self.parent
        return True

    @property
    def told(self) -> bool:
        """Whether anybody said something of it since it began."""
        return bool(self.added or self.events or self.status is not _UNSET)

    @property
    def plain(self) -> bool:
        """Whether it has no text that an agent, a library or an error gave it."""
        return not self.events and (self.status is _UNSET or not self.status.description)

    def is_recording(self) -> bool:
        return self.end_time is None and self.sampled

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        if self.end_time is None:
            if type(key) is not str or type(value) not in _SIMPLE:
                self._odd = True
                # It is looked at when it is sent, and whoever gave a list may change it before.
                value = tuple(value) if isinstance(value, list) else value
            if self.added is None:
                self.added = {}
            self.added[key] = value

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def add_event(
        self, name: str, attributes: Attributes = None, timestamp: int | None = None
    ) -> None:
        if self.is_recording() and len(self.events) < _EVENTS_LIMIT:
            limits = self.origin.limits
            bounded = BoundedAttributes(
                limits.max_event_attributes, attributes, max_value_len=limits.max_attribute_length
            )
            self.events = [*self.events, Event(name, bounded, timestamp)]

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        kind = type(exception)
        named = {
            "exception.type": f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."),
            "exception.message": text_of(exception),
            "exception.stacktrace": "".join(traceback.format_exception(exception)),
            "exception.escaped": str(escaped),
        }
        self.add_event("exception", {**named, **(attributes or {})}, timestamp)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        if isinstance(status, StatusCode):
            status = Status(status, description)
        # OK is the last word, and nobody takes an error back by UNSET (the specification of the
        # API, "Set Status").
        final = self.status.status_code is StatusCode.OK
        if self.end_time is None and not final and status.status_code is not StatusCode.UNSET:
            self.status = status

    def update_name(self, name: str) -> None:
        if self.end_time is None:
            self.name = name

    def end(self, end_time: int | None = None) -> None:
        if self.end_time is None:
            self.end_time = time.time_ns() if end_time is None else end_time
            if self.sampled:
                self.origin.sink(self)

    @property
    def simple(self) -> bool:
        """Whether its attributes are sent as they are, `added` after those it began with."""
        limits, added = self.origin.limits, self.added
        if self._odd or limits.max_span_attribute_length is not None:
            return False
        if added and not self.attributes.keys().isdisjoint(added):
            return False
        count = len(self.attributes) + (len(added) if added else 0)
        return limits.max_span_attributes is None or count <= limits.max_span_attributes

    def _all_attributes(self) -> Mapping[str, AttributeValue]:
        limits, added = self.origin.limits, self.added
        attributes = {**self.attributes, **added} if added else self.attributes
        if self.simple:
            return attributes
        # What an agent gave may be no attribute at all; the SDK says so and leaves it out.
        return BoundedAttributes(
            limits.max_span_attributes,
            attributes,
            max_value_len=limits.max_span_attribute_length,
        )

    def made(self) -> ReadableSpan:
        """The SDK's own span of it, for whoever sends it: made there, in a thread, where it takes
        a third of what it takes between two steps of the event loop."""
        return ReadableSpan(
            self.name,
            self.get_span_context(),
            self.parent,
            self.origin.resource,
            self._all_attributes(),
            self.events,
            self.links,
            self.kind,
            status=self.status,
            start_time=self.start_time,
            end_time=self.end_time,
            instrumentation_scope=self.origin.scope,
        )


Ended = ReadableSpan | LateSpan


class LateSpanExporter(SpanExporter):
    """Hands an exporter that knows no other spans the SDK's own."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[Ended]) -> SpanExportResult:
        return self._exporter.export(
            [span.made() if isinstance(span, LateSpan) else span for span in spans]
        )

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class Current(AbstractContextManager[Span]):
    """Makes a span the current one, and ends it. What is raised does not change it. around: the
    current context, which whoever starts a span has looked at."""

    def __init__(self, span: Span, around: Context) -> None:
        self._span = span
        self._around = around

    def __enter__(self) -> Span:
        self._token = attach(Context({**self._around, SPAN: self._span}))
        return self._span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        detach(self._token)
        self._span.end()
