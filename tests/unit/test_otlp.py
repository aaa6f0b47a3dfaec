"""Our encoder of spans beside the library's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as over_grpc
from opentelemetry.exporter.otlp.proto.http import trace_exporter as over_http
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from flyteagents._telemetry import otlp
from flyteagents._telemetry.late_spans import CommonAttributes, LateSpan, Origin
from flyteagents._telemetry.otlp import Encoder, use_for

RESOURCES = [Resource({"service.name": "a"}), Resource({"n": 1}, "https://schema.example")]
SCOPES = [
    InstrumentationScope("one"),
    InstrumentationScope("two", "1", "https://schema.example"),
    InstrumentationScope("one", attributes={"x": 1}),
]

texts = st.text(max_size=8) | st.sampled_from(["x" * 127, "x" * 128, "é" * 9000])
numbers = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, 127, 128, -1])
plain = st.none() | st.booleans() | texts | numbers | st.floats() | st.sampled_from([0.0, -0.0])
values = plain | st.lists(texts, max_size=2) | st.binary(max_size=3) | st.just(2**64)
names = st.sampled_from(["url.full", "flyte.execution", "a", "b", "", "ü"])
attributes = st.dictionaries(names, values, max_size=4)
ids = st.integers(1, 2**64 - 1)
times = st.integers(1, 2**64 - 1)


@st.composite
def contexts(draw: st.DrawFn) -> SpanContext:
    return SpanContext(
        draw(st.integers(1, 2**128 - 1)),
        draw(ids),
        is_remote=draw(st.booleans()),
        trace_flags=TraceFlags(draw(st.integers(0, 1))),
        trace_state=draw(st.sampled_from([TraceState(), TraceState([("k", "v")])])),
    )


@st.composite
def spans(draw: st.DrawFn) -> ReadableSpan:
    code = draw(st.sampled_from(StatusCode))
    text = draw(st.none() | texts) if code is StatusCode.ERROR else None
    events = st.builds(Event, texts, st.dictionaries(names, plain, max_size=2), times)
    return ReadableSpan(
        draw(texts),
        draw(contexts()),
        draw(st.none() | contexts()),
        draw(st.sampled_from(RESOURCES)),
        draw(attributes),
        draw(st.lists(events, max_size=2)) if draw(st.integers(0, 4)) == 0 else (),
        draw(st.lists(st.builds(Link, contexts()), max_size=2)) if draw(st.booleans()) else (),
        draw(st.sampled_from(SpanKind)),
        status=Status(code, text),
        start_time=draw(times),
        end_time=draw(times),
        instrumentation_scope=draw(st.sampled_from(SCOPES)),
    )


encoder = Encoder()


@settings(max_examples=300)
@given(st.lists(spans(), max_size=6))
def test_every_span_is_encoded_as_by_the_library(batch: list[ReadableSpan]) -> None:
    theirs = encode_spans(batch)
    # Bytes, since NaN is not equal to itself.
    assert encoder.request(batch).SerializeToString(deterministic=True) == theirs.SerializeToString(
        deterministic=True
    )


def ended(origin: Origin, shared: CommonAttributes, added: dict[str, Any]) -> LateSpan:
    parent = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1))
    span = LateSpan(origin, "GetTask", parent, SpanKind.SERVER, shared, (), 1)
    span.set_attributes(added)
    span.end(2)
    return span


@given(attributes, st.lists(attributes, min_size=1, max_size=3))
def test_spans_that_share_attributes_are_encoded_as_by_the_library(
    common: dict[str, Any], added: list[dict[str, Any]]
) -> None:
    sink: list[LateSpan] = []
    origin = Origin(TracerProvider(), SCOPES[0], sink.append)
    shared = CommonAttributes(common)
    for more in added:
        ended(origin, shared, more)
    theirs = encode_spans([span.made() for span in sink])
    assert encoder.request(sink).SerializeToString(deterministic=True) == theirs.SerializeToString(
        deterministic=True
    )


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "_KNOWN_LIMIT", 10)
    small = Encoder()
    for number in range(100):
        span = ReadableSpan(
            "x",
            SpanContext(1, 1, False),
            resource=Resource({"n": number}),
            attributes={"n": number, "url.full": str(number)},
            start_time=1,
            end_time=2,
        )
        assert small.request([span]) == encode_spans([span])
    assert len(small._attributes) <= 10
    assert len(small._frames) <= 10


@pytest.fixture(params=[over_grpc, over_http])
def exporters(request: pytest.FixtureRequest) -> Iterator[Any]:
    kept = request.param.encode_spans
    request.param.encode_spans = encode_spans
    yield request.param
    request.param.encode_spans = kept


def test_the_librarys_exporters_use_ours(exporters: Any) -> None:
    assert use_for(exporters.OTLPSpanExporter())
    assert use_for(exporters.OTLPSpanExporter())  # a second one
    assert exporters.encode_spans is not encode_spans
    assert exporters.encode_spans([]) == ExportTraceServiceRequest()


def test_an_exporter_that_cannot_be_told_encodes_by_itself(exporters: Any) -> None:
    del exporters.encode_spans
    assert not use_for(exporters.OTLPSpanExporter())
    assert not hasattr(exporters, "encode_spans")
    assert not use_for(sys)


@pytest.mark.parametrize("moment", [-62_135_596_800 * 10**9, 253_370_764_800 * 10**9])
def test_a_span_that_nobody_can_encode_costs_no_other(
    moment: int, caplog: pytest.LogCaptureFixture
) -> None:
    sink: list[LateSpan] = []
    origin = Origin(TracerProvider(), SCOPES[0], sink.append)
    for start in (moment, 1, moment, 2):
        span = LateSpan(origin, "GetTask", None, SpanKind.SERVER, {}, (), start)
        span.end(max(start, 2))
    request = Encoder().request(sink)
    sent = request.resource_spans[0].scope_spans[0].spans
    assert [span.start_time_unix_nano for span in sent] == [1, 2]
    assert caplog.text.count("the span 'GetTask' cannot be sent") == 2
