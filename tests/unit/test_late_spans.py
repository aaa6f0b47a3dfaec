"""Spans that are made when they end, beside the SDK's own."""

from __future__ import annotations

import contextvars
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode

from flyteagents import Identity
from flyteagents._telemetry import late_spans
from flyteagents._telemetry.late_spans import LateSpan, LateSpanExporter, Origin
from flyteagents._telemetry.otlp import Encoder
from flyteagents._telemetry.providers import Telemetry, start_telemetry
from flyteagents._telemetry.tracing import Rpc, Tracing, trace_id, vendor_span
from flyteagents.testing.otlp import OtlpReceiver

TASK = "s3://bucket/meta/p-d-exec/n0/data/"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as started:
        yield started


def call(tracing: Tracing, method: str, work: Callable[[Rpc], None], code: str = "OK") -> None:
    """An RPC in a context of its own, as gRPC gives it one."""

    def run() -> None:
        rpc = Rpc(tracing, f"service/{method}", lambda: [("traceparent", TRACEPARENT)])
        rpc.begin(
            tracing.attempt(
                trace_id(TASK), "key", "acme", Identity(project="p", attempt=2), time.time()
            )
        )
        try:
            work(rpc)
        finally:
            rpc.end(code, "token=abcdef0123456789")

    contextvars.copy_context().run(run)


def ask(status: int = 200) -> None:
    with vendor_span("GET", {"server.address": "vendor", "http.request.method": "GET"}) as span:
        span.set_attribute("http.response.status_code", status)
        if status != 200:
            span.set_attribute("error.type", str(status))
            span.set_status(StatusCode.ERROR)


def all_kinds(telemetry: Telemetry) -> None:
    """One call of each kind, with what agents and libraries may do to their spans."""
    tracing = telemetry.tracing

    def create(_: Rpc) -> None:
        with tracing.operation("acme", "create"):
            current = trace.get_current_span()
            current.set_attributes({"acme.region": "eu", "acme.tries": 2, "acme.list": ["a", "b"]})
            current.add_event("queued", {"place": 3, "note": "password=hunter2hunter2"})
            current.update_name("create acme in eu")
            ask()

    def refuse(_: Rpc) -> None:
        with tracing.operation("acme", "create"):
            ask(400)
            raise RuntimeError("Bearer abcdef0123456789abcdef")

    def poll(rpc: Rpc) -> None:
        rpc.changed = False
        with tracing.operation("acme", "get"):
            ask()

    def poll_with_a_word(rpc: Rpc) -> None:
        rpc.changed = False
        with tracing.operation("acme", "get"):
            trace.get_current_span().set_attribute("acme.progress", 0.5)
            ask()

    def poll_that_fails(rpc: Rpc) -> None:
        rpc.changed = False
        with tracing.operation("acme", "get"):
            ask(503)
            raise ConnectionError("away")

    def poll_that_changes(_: Rpc) -> None:
        with tracing.operation("acme", "get"):
            ask()

    def cancel(_: Rpc) -> None:
        with tracing.operation("acme", "cancel"):
            current = trace.get_current_span()
            current.record_exception(ValueError("secret=abcdef0123456789"), {"more": 1})
            current.set_status(StatusCode.OK)
            current.set_status(StatusCode.ERROR, "too late")
            with tracing.tracer.start_as_current_span("theirs", kind=SpanKind.PRODUCER):
                ask()

    for work in (create, poll, poll_with_a_word, poll_that_changes, cancel):
        call(tracing, work.__name__, work)
    for work in (refuse, poll_that_fails):
        with pytest.raises((RuntimeError, ConnectionError)):
            call(tracing, work.__name__, work, "UNAVAILABLE")
    unread = Rpc(tracing, "service/unread")
    contextvars.copy_context().run(unread.end, "INVALID_ARGUMENT", "")


def seen(receiver: OtlpReceiver) -> list[tuple[Any, ...]]:
    """The spans but for their ids and times, each with its parents' names."""
    by_id = {span.span_id: span for span in receiver.spans}

    def path(span_id: str) -> str:
        span = by_id.get(span_id)
        return "" if span is None else f"{path(span.parent_id)}/{span.name}"

    return sorted(
        (
            path(span.span_id),
            span.kind,
            span.status,
            span.message,
            span.events,
            span.links,
            sorted(span.attributes.items()),
            sorted(name for name in span.resource if name != "service.instance.id"),
        )
        for span in receiver.spans
    )


def played(late: bool, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    monkeypatch.setattr(late_spans, "LATE", late)
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", receiver.endpoint)
        telemetry = start_telemetry()
        all_kinds(telemetry)
        telemetry.shutdown()
        assert all(span.start <= span.end for span in receiver.spans)
        return seen(receiver)


@pytest.mark.parametrize(
    "limit", ["", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"]
)
def test_every_kind_of_call_leaves_the_same_spans_as_with_the_sdks_own(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if limit:
        monkeypatch.setenv(limit, "3")
    theirs = played(False, monkeypatch)
    # A look that changed nothing has no span of the agent's own, and nothing else is lost.
    spared = [
        (span[0].replace("/service/poll/get acme", "/service/poll"), *span[1:])
        for span in theirs
        if span[0] != "/service/poll/get acme"
    ]
    assert len(spared) == len(theirs) - 1
    assert played(True, monkeypatch) == sorted(spared)


def test_a_span_says_what_it_is_while_it_runs(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", receiver.endpoint)
    telemetry = start_telemetry()
    with telemetry.tracing.operation("acme", "create") as span:
        assert isinstance(span, LateSpan)
        assert trace.get_current_span() is span
        assert span.is_recording()
        span.set_status(Status(StatusCode.ERROR, "first"))
        span.set_status(StatusCode.UNSET)
    assert not span.is_recording()
    span.set_attribute("late", 1)
    span.add_event("late")
    span.update_name("late")
    span.set_status(StatusCode.OK)
    span.end()
    telemetry.shutdown()
    (received,) = receiver.spans
    assert (received.name, received.status, received.message) == ("create acme", "ERROR", "first")
    assert received.events == ()
    assert set(received.attributes) == {"flyte.agent", "flyte.operation"}


def test_a_span_that_ends_after_its_call_is_not_left_under_one_that_was_spared(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", receiver.endpoint)
    telemetry = start_telemetry()
    inside: list[contextvars.Context] = []

    def poll(rpc: Rpc) -> None:
        rpc.changed = False
        with telemetry.tracing.operation("acme", "get"):
            inside.append(contextvars.copy_context())

    call(telemetry.tracing, "GetTask", poll)
    inside[0].run(ask)  # what the agent left running
    telemetry.shutdown()
    server, request = receiver.spans
    assert request.parent_id == server.span_id


def test_an_exporter_of_another_package_gets_the_sdks_own_spans() -> None:
    sink: list[LateSpan] = []
    origin = Origin(TracerProvider(), InstrumentationScope("ours"), sink.append)
    origin.start("GetTask", None).end()
    kept = InMemorySpanExporter()
    exporter = LateSpanExporter(kept)
    theirs = sink[0].made()
    assert exporter.export([*sink, theirs]) is SpanExportResult.SUCCESS
    assert exporter.force_flush()
    assert [type(span) for span in kept.get_finished_spans()] == [ReadableSpan] * 2
    exporter.shutdown()
    assert exporter.export(sink) is SpanExportResult.FAILURE


def test_a_request_outside_of_calls_has_a_span_of_the_process(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", receiver.endpoint)
    telemetry = start_telemetry()
    with telemetry.tracing.operation("acme", "cancel"), vendor_span("GET", {}) as span:
        assert span.is_recording()
    telemetry.shutdown()


def begun(name: str = "get") -> tuple[LateSpan, list[LateSpan]]:
    sink: list[LateSpan] = []
    origin = Origin(TracerProvider(), InstrumentationScope("ours"), sink.append)
    span = origin.start(name, None)
    assert isinstance(span, LateSpan)
    return span, sink


def test_all_threads_are_told_the_same_id_of_a_span(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = begun()[0].get_span_context()
    span = LateSpan(begun()[0].origin, "get", parent, SpanKind.INTERNAL, {}, (), None)
    make = LateSpan._identified
    told: list[SpanContext | None] = []

    def asked_meanwhile(self: LateSpan) -> SpanContext:
        if not told:
            told.append(None)
            told[0] = self.get_span_context()
        return make(self)

    monkeypatch.setattr(LateSpan, "_identified", asked_meanwhile)
    assert span.get_span_context() == told[0] == span.get_span_context()


def test_what_is_done_to_a_list_after_it_was_given_changes_no_span() -> None:
    span, sink = begun()
    given = ["a"]
    span.set_attribute("acme.list", given)
    span.end()
    given.append("b")
    assert sink[0].made().attributes == {"acme.list": ("a",)}


def test_an_attribute_whose_name_is_no_text_loses_no_other_span() -> None:
    (odd, sink), (plain, more) = begun("odd"), begun("plain")
    odd.set_attribute(5, "five")  # type: ignore[arg-type] # an agent's mistake
    odd.end()
    plain.end()
    request = Encoder().request([*sink, *more])
    spans = [
        span
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    sent = {span.name: [attribute.key for attribute in span.attributes] for span in spans}
    assert sent == {"odd": ["5"], "plain": []}  # as the SDK has it
