"""Spans as OTLP messages, in a fifth of the time.

The library's encoder builds a message of Python objects for each attribute: 40 to 60 microseconds a
span, in a thread that takes turns with the event loop. This one writes the bytes, 7 microseconds a
span, since attributes repeat from span to span and each is encoded once. Only the message is made
here: connections, retries, TLS, compression and variables stay the exporters' own. Spans with what
this encoder does not know (events, links to other traces with attributes, lists) go through the
library's, and where the library has changed so that its encoder cannot be replaced, all do.

`use_for` is the one line that switches it on. The numbers are those of opentelemetry-proto,
trace/v1/trace.proto and common/v1/common.proto; `tests/unit/test_otlp.py` compares both encoders.
"""

from __future__ import annotations

import logging
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Status, StatusCode

from flyteagents._telemetry.late_spans import CommonAttributes, Ended, LateSpan

log = logging.getLogger("flyteagents")
_KNOWN_LIMIT, _LONG = 4096, 1024
"""Attributes that are remembered, and bytes of one: some come over the wire."""
_IDS, _ABOVE = struct.Struct(">H16sHQ"), struct.Struct(">HQ")
_TIMES = struct.Struct("<BBBQBQ")
_DOUBLE = struct.Struct("<d")
# SpanFlags of trace.proto: whether it is known that the parent is remote, and whether it is.
_LOCAL, _REMOTE = (
    # Field 16, the only one here whose tag takes two bytes.
    b"\x85\x01" + flags.to_bytes(4, "little")
    for flags in (0x100, 0x300)
)
_UNSET = b"\x7a\x00"
_KINDS = (1, 2, 3, 4, 5)  # of SpanKind, which has no "unspecified"
_NOT_AGAIN = frozenset(("url.full", "flyte.execution"))
"""Attributes that differ from job to job: kept, they would push out the others."""


def use_for(exporter: object) -> bool:
    """Let an exporter of the library's encode spans with this module. Both of them, over gRPC and
    over HTTP, look the function up in their own module. False for one that cannot."""
    module: Any = sys.modules.get(type(exporter).__module__)
    theirs = getattr(module, "encode_spans", None)
    if theirs is encode_spans:
        module.encode_spans = Encoder().request
    return theirs is encode_spans or isinstance(getattr(theirs, "__self__", None), Encoder)


class Encoder:
    """Encodes spans as `encode_spans` of the library does."""

    def __init__(self) -> None:
        self._attributes: dict[tuple[str, object, type], bytes] = {}
        self._names: dict[str, bytes] = {}
        self._frames: dict[tuple[int, int], tuple[Ended, bytes, bytes]] = {}

    def request(self, spans: Sequence[Ended]) -> ExportTraceServiceRequest:
        resources: dict[bytes, dict[bytes, list[bytes]]] = {}
        for span in spans:
            try:
                resource, scope = self._frame(span)
                encoded = _field(0x12, self._span(span))
            except Exception as error:  # noqa: BLE001 # what nobody can encode costs no other span
                log.warning("the span %.80r cannot be sent: %s", span.name, type(error).__name__)
                continue
            resources.setdefault(resource, {}).setdefault(scope, []).append(encoded)

        request = ExportTraceServiceRequest()
        for resource, scopes in resources.items():
            body = b"".join(
                _field(0x12, scope + b"".join(encoded)) for scope, encoded in scopes.items()
            )
            request.MergeFromString(_field(0x0A, resource + body))
        return request

    def _frame(self, span: Ended) -> tuple[bytes, bytes]:
        """What stands around the span: its resource and its scope, by the library's encoder."""
        key = (id(span.resource), id(span.instrumentation_scope))
        known = self._frames.get(key)
        if known is None:
            made = encode_spans([_theirs(span)]).resource_spans[0]
            scope = made.scope_spans[0]
            scope.ClearField("spans")
            made.ClearField("scope_spans")
            if len(self._frames) >= _KNOWN_LIMIT:
                self._frames.clear()
            # The span is kept too: were its resource let go, another could get the same id.
            known = (span, made.SerializeToString(), scope.SerializeToString())
            self._frames[key] = known
        return known[1], known[2]

    def _span(self, span: Ended) -> bytes:
        try:
            encoded = self._plain(span)
        except (AttributeError, TypeError, ValueError, struct.error):
            # No text; a list; half of a character; no time.
            encoded = None
        if encoded is not None:
            return encoded
        theirs = encode_spans([_theirs(span)]).resource_spans[0].scope_spans[0].spans[0]
        return theirs.SerializeToString()

    def _plain(self, span: Ended) -> bytes | None:
        """An ordinary span; None when it holds what is not written here."""
        context, start, end = span.context, span.start_time, span.end_time
        if context is None or start is None or end is None or context.trace_state:
            return None
        if span.events or span.links:
            return None
        if isinstance(span, LateSpan):
            if not span.simple:
                return None
            attributes = self._shared(span.attributes) + self._all(span.added or {})
        elif span.dropped_attributes or span.dropped_events or span.dropped_links:
            return None
        else:
            attributes = self._all(span.attributes or {})
        ids = _IDS.pack(0x0A10, context.trace_id.to_bytes(16, "big"), 0x1208, context.span_id)
        parent = span.parent
        above, flags = b"", _LOCAL
        if parent is not None:
            above = _ABOVE.pack(0x2208, parent.span_id)
            flags = _REMOTE if parent.is_remote else _LOCAL
        return b"".join(
            (
                ids,
                above,
                self._name(span.name),
                _TIMES.pack(0x30, _KINDS[span.kind.value], 0x39, start, 0x41, end),
                attributes,
                _status(span.status),
                flags,
            )
        )

    def _name(self, name: str) -> bytes:
        encoded = self._names.get(name)
        if encoded is None:
            encoded = _field(0x2A, name.encode()) if name else b""
            if len(self._names) >= _KNOWN_LIMIT:
                self._names.clear()
            self._names[name] = encoded
        return encoded

    def _shared(self, attributes: Mapping[str, Any]) -> bytes:
        """Those that a span began with: encoded once for all spans that have them."""
        if not isinstance(attributes, CommonAttributes):
            return self._all(attributes)
        if not attributes.encoded:
            attributes.encoded = self._all(attributes)
        return attributes.encoded

    def _all(self, attributes: Mapping[str, Any]) -> bytes:
        known = self._attributes
        parts = []
        for name, value in attributes.items():
            key = (name, value, value.__class__)  # True is 1, and they are encoded differently
            part = known.get(key)
            if part is None:
                part = _attribute(name, value)
                again = len(part) <= _LONG and name not in _NOT_AGAIN
                if again and not isinstance(value, float):  # 0.0 is -0.0
                    if len(known) >= _KNOWN_LIMIT:
                        known.clear()
                    known[key] = part
            parts.append(part)
        return b"".join(parts)


def _theirs(span: Ended) -> ReadableSpan:
    return span.made() if isinstance(span, LateSpan) else span


def _attribute(name: str, value: object) -> bytes:
    return _field(0x4A, _field(0x0A, name.encode()) + _field(0x12, _value(value)))


def _value(value: object) -> bytes:
    """An AnyValue. Raises TypeError or ValueError for what is left to the library."""
    if isinstance(value, str):
        return _field(0x0A, value.encode())
    # Before int, which a bool is too.
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise ValueError("it does not fit 64 bits")
        # Protobuf has negative numbers as two's complement, in ten bytes.
        return b"\x18" + _varint(value & (1 << 64) - 1)
    if isinstance(value, float):
        return b"\x21" + _DOUBLE.pack(value)
    raise TypeError("lists and mappings are left to the library")


def _status(status: Status) -> bytes:
    if status.status_code is StatusCode.UNSET and not status.description:
        return _UNSET
    text = _field(0x12, status.description.encode()) if status.description else b""
    if status.status_code is StatusCode.UNSET:
        return _field(0x7A, text)
    return _field(0x7A, text + bytes((0x18, status.status_code.value)))


def _field(tag: int, body: bytes) -> bytes:
    """A field with a length, of a number below 16."""
    return bytes((tag,)) + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
