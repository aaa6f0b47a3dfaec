"""Spans of a call that are kept back until the call knows whether they are worth sending.

A poll that changes nothing happens every few seconds for as long as a job runs. Only at its end is
known that it was one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.context import create_key, get_value
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor
from opentelemetry.trace import Span, SpanContext, Status
from opentelemetry.util.types import Attributes

from flyteagents._redact import redact
from flyteagents._telemetry.late_spans import Ended, LateSpan, Origin

CALL = create_key("flyteagents-call")
LIMIT = 64


class Held(list[Ended]):
    """What one call keeps back, at most LIMIT spans; it is in the call's context under CALL.
    `vendor` is where the spans of requests to vendors come from, `dropped` the parents of spans
    that were spared, by their ids."""

    __slots__ = ("dropped", "open", "vendor")

    def __init__(self, vendor: Origin) -> None:
        self.vendor = vendor
        self.open = True
        self.dropped: dict[int, SpanContext | None] | None = None

    def without_spare(self) -> Sequence[Ended]:
        """What is sent of a call that changed nothing."""
        sent: list[Ended] = []
        for span in self:
            if not isinstance(span, LateSpan) or not span.spare or span.told:
                sent.append(span)
            elif not span.gives_way():
                self.dropped = self.dropped or {}
                self.dropped[span.get_span_context().span_id] = span.parent
        return sent


def held_around(current: Span) -> Held | None:
    """What the call that `current` is of keeps back; None outside of calls."""
    held = current.held if isinstance(current, LateSpan) else get_value(CALL)
    return held if isinstance(held, Held) else None


class HoldingProcessor(SpanProcessor):
    """Passes ended spans on to `targets`. What ends within a call waits for `settle`; what ends
    after its call, detached, or beyond the limit, is passed on at once."""

    def __init__(self, targets: Sequence[SpanProcessor]) -> None:
        self._targets = targets

    def on_end(self, span: Ended) -> None:
        held = span.held if isinstance(span, LateSpan) else get_value(CALL)
        if not isinstance(held, Held):
            self.send(span)
        elif held.open and len(held) < LIMIT:
            held.append(span)  # from a lane's thread, just when the call ends, it may be lost
        else:
            self.send(_under_what_is_sent(span, held) if held.dropped else span)

    def settle(self, held: Held, *, keep: bool, changed: bool) -> None:
        """The call ends: send what was held, or drop it. Where the call changed nothing, what was
        within a `spare` span goes under that span's parent."""
        held.open = False
        if keep and held:
            # All of them first: a child ends before its parent, so it stands before it here.
            for span in held if changed else held.without_spare():
                self.send(_under_what_is_sent(span, held))
        held.clear()

    def send(self, span: Ended) -> None:
        if isinstance(span, LateSpan):
            span.get_span_context()  # now: whoever sends it does so in another thread
            # A processor finds in it what it looks at; whoever exports it makes the rest.
            sent: Any = span if span.plain else _masked(span.made())
        else:
            sent = _masked(span)
        for target in self._targets:
            target.on_end(sent)

    def shutdown(self) -> None:
        for target in self._targets:
            target.shutdown()


def _under_what_is_sent(span: Ended, held: Held) -> Ended:
    parent = span.parent
    if not held.dropped or parent is None or parent.span_id not in held.dropped:
        return span
    above = held.dropped[parent.span_id]
    if isinstance(span, LateSpan):
        span.parent = above
        return span
    return _copy(span, above, span.events, span.status)


def _masked(span: ReadableSpan) -> ReadableSpan:
    """What libraries and agents put into their own spans when something fails, without secrets."""
    if not span.events and not span.status.description:
        return span
    description = span.status.description
    events = [Event(event.name, _texts(event.attributes), event.timestamp) for event in span.events]
    status = Status(span.status.status_code, description and redact(description))
    return _copy(span, span.parent, events, status)


def _copy(
    span: ReadableSpan, parent: SpanContext | None, events: Sequence[Event], status: Status
) -> ReadableSpan:
    return ReadableSpan(
        span.name,
        span.context,
        parent,
        span.resource,
        span.attributes,
        events,
        span.links,
        span.kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _texts(attributes: Attributes) -> Attributes:
    given = (attributes or {}).items()
    return {name: redact(part) if isinstance(part, str) else part for name, part in given}
