"""Spans of a call that are kept back until the call knows whether they are worth sending."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.context import create_key, get_value
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor
from opentelemetry.trace import Status
from opentelemetry.util.types import Attributes

from flyteagents._redact import redact

CALL = create_key("flyteagents-call")
LIMIT = 64


class Held(list[ReadableSpan]):
    """What one call keeps back, at most LIMIT spans; it is in the call's context under CALL."""

    open = True


class HoldingProcessor(SpanProcessor):
    """Passes ended spans on to `targets`. What ends within a call waits for `settle`; what ends
    after its call, detached, or beyond the limit, is passed on at once."""

    def __init__(self, targets: Sequence[SpanProcessor]) -> None:
        self._targets = targets

    def on_end(self, span: ReadableSpan) -> None:
        held = get_value(CALL)
        if isinstance(held, Held) and held.open and len(held) < LIMIT:
            held.append(span)  # from a lane's thread, just when the call ends, it may be lost
        else:
            self.send(span)

    def settle(self, held: Held, keep: bool) -> None:
        """The call ends: send what was held, or drop it."""
        held.open = False
        for span in held if keep else ():
            self.send(span)
        held.clear()

    def send(self, span: ReadableSpan) -> None:
        span = _masked(span)
        for target in self._targets:
            target.on_end(span)

    def shutdown(self) -> None:
        for target in self._targets:
            target.shutdown()


def _masked(span: ReadableSpan) -> ReadableSpan:
    """What libraries and agents put into their own spans when something fails, without secrets."""
    if not span.events and not span.status.description:
        return span
    description = span.status.description
    return ReadableSpan(
        span.name, span.context, span.parent, span.resource, span.attributes,
        [Event(event.name, _texts(event.attributes), event.timestamp) for event in span.events],
        span.links, span.kind,
        status=Status(span.status.status_code, description and redact(description)),
        start_time=span.start_time, end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )  # fmt: skip


def _texts(attributes: Attributes) -> Attributes:
    given = (attributes or {}).items()
    return {name: redact(part) if isinstance(part, str) else part for name, part in given}
