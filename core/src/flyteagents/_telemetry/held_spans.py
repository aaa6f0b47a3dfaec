"""Spans of a call that are kept back until the call knows whether they are worth sending."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.context import create_key, get_value
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

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
            held.append(span)
        else:
            self.send(span)

    def settle(self, held: Held, keep: bool) -> None:
        """The call ends: send what was held, or drop it."""
        held.open = False
        for span in held if keep else ():
            self.send(span)

    def send(self, span: ReadableSpan) -> None:
        for target in self._targets:
            target.on_end(span)

    def shutdown(self) -> None:
        for target in self._targets:
            target.shutdown()
