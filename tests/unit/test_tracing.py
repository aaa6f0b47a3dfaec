from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from opentelemetry import trace

from flyteagents._telemetry.providers import BadTelemetry, Telemetry, start_telemetry
from flyteagents._telemetry.spans import Held
from flyteagents._telemetry.tracing import Tracing, root_span_id, trace_id
from flyteagents.testing.otlp import OtlpReceiver, ReceivedSpan

SERVICE = "flyteidl.service.AsyncAgentService"
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


@pytest.fixture
def telemetry(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Telemetry]:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", receiver.endpoint)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    started = start_telemetry()
    yield started
    started.shutdown()


def sent(receiver: OtlpReceiver, telemetry: Telemetry) -> dict[str, ReceivedSpan]:
    telemetry.shutdown()
    return {span.name: span for span in receiver.spans}


def poll(tracing: Tracing, keep: bool = True) -> None:
    context = tracing.task_context(trace_id(TASK), root_span_id("key"))
    with tracing.server_span(SERVICE, "GetTask", context=context) as span:
        with tracing.operation_span("acme", "get"):
            pass
        span.keep_children = keep


def test_ids_follow_from_the_task_and_the_key_on_every_replica() -> None:
    # Frozen: two releases that serve one task must agree.
    assert trace_id(TASK) == 0x74FA1648EEC570CDD8675B27CB6A8E4D
    assert root_span_id("key") == 0xB13DB819FB80864B
    assert trace_id(TASK) != trace_id(TASK + "x")


def test_all_calls_of_a_task_join_one_trace_under_its_root(
    receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    poll(telemetry.tracing)
    now = time.time()
    for _ in range(2):
        telemetry.tracing.root_span(
            trace_id(TASK), "key", "job acme", now - 60, now, {"flyte.job.rows": 3}, False, "no"
        )
    spans = sent(receiver, telemetry)
    server, operation, root = spans[f"{SERVICE}/GetTask"], spans["get acme"], spans["job acme"]
    assert {span.trace_id for span in receiver.spans} == {f"{trace_id(TASK):032x}"}
    assert operation.parent_id == server.span_id
    assert server.parent_id == root.span_id == f"{root_span_id('key'):016x}"
    assert root.parent_id == ""
    assert root.end - root.start == pytest.approx(60e9, rel=1e-3)
    assert (root.status, root.message, root.attributes["flyte.job.rows"]) == ("ERROR", "no", 3)
    assert [span.span_id for span in receiver.spans].count(root.span_id) == 2


def test_a_server_span_has_the_rpc_attributes_and_the_callers_context_as_a_link(
    receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    arrived = time.time_ns() - 10**9
    with telemetry.tracing.server_span(
        SERVICE,
        "GetTask",
        incoming=TRACEPARENT,
        start_time_ns=arrived,
        attributes={"flyte.task_type": "acme"},
    ) as span:
        span.set_status("NOT_FOUND", "no such thing")
    span_received = sent(receiver, telemetry)[f"{SERVICE}/GetTask"]
    assert span_received.kind == "SERVER"
    assert span_received.start == arrived
    assert span_received.links == (("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"),)
    assert span_received.trace_id != "0af7651916cd43dd8448eb211c80319c"
    assert span_received.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": f"{SERVICE}/GetTask",
        "rpc.system": "grpc",
        "rpc.service": SERVICE,
        "rpc.response.status_code": "NOT_FOUND",
        "rpc.grpc.status_code": 5,
        "flyte.task_type": "acme",
    }
    assert span_received.resource["service.name"] == "flyteagents"


@pytest.mark.parametrize("broken", ["", "00-zz", "00-" + "0" * 32 + "-b7ad6b7169203331-01"])
def test_a_traceparent_that_is_none_links_to_nothing(
    broken: str, receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    with telemetry.tracing.server_span(SERVICE, "GetTask", incoming=broken):
        pass
    assert sent(receiver, telemetry)[f"{SERVICE}/GetTask"].links == ()


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("OK", "UNSET"),
        ("INVALID_ARGUMENT", "UNSET"),
        ("CANCELLED", "UNSET"),
        ("INTERNAL", "ERROR"),
        ("UNAVAILABLE", "ERROR"),
        ("DEADLINE_EXCEEDED", "ERROR"),
    ],
)
def test_only_the_servers_faults_make_a_span_an_error(
    code: str, status: str, receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    with telemetry.tracing.server_span(SERVICE, "GetTask") as span:
        span.set_status(code, "Bearer abcdef0123456789abcdef")
    received = sent(receiver, telemetry)[f"{SERVICE}/GetTask"]
    assert received.status == status
    assert "abcdef" not in received.message


def test_an_exception_becomes_a_status_and_no_event_and_tells_no_secret(
    receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    def fail() -> None:
        with (
            telemetry.tracing.server_span(SERVICE, "GetTask"),
            telemetry.tracing.operation_span("acme", "get"),
        ):
            raise RuntimeError("password=hunter2hunter2")

    with pytest.raises(RuntimeError):
        fail()
    spans = sent(receiver, telemetry)
    server, operation = spans[f"{SERVICE}/GetTask"], spans["get acme"]
    assert server.attributes["rpc.response.status_code"] == "UNKNOWN"
    assert operation.attributes["error.type"] == "RuntimeError"
    assert (server.status, operation.status) == ("ERROR", "ERROR")
    assert (server.events, operation.events) == ((), ())
    assert "hunter2" not in server.message + operation.message


def test_a_call_that_the_caller_leaves_is_cancelled_and_no_error(
    receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    async def call() -> None:
        with telemetry.tracing.server_span(SERVICE, "GetTask"):
            await asyncio.sleep(10)

    async def leave() -> None:
        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    received = sent(receiver, telemetry)[f"{SERVICE}/GetTask"]
    assert received.attributes["rpc.response.status_code"] == "CANCELLED"
    assert received.status == "UNSET"


def test_a_poll_that_changed_nothing_keeps_its_span_and_drops_its_children(
    receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    poll(telemetry.tracing, keep=False)
    assert list(sent(receiver, telemetry)) == [f"{SERVICE}/GetTask"]


def test_work_that_ends_after_its_call_is_sent_whatever_the_call_thought(
    receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    async def call() -> None:
        with telemetry.tracing.server_span(SERVICE, "GetTask") as span:
            span.keep_children = False
            detached = asyncio.create_task(work())
            await asyncio.sleep(0)
        await detached

    async def work() -> None:
        with telemetry.tracing.operation_span("acme", "get"):
            await asyncio.sleep(0.01)

    asyncio.run(call())
    spans = sent(receiver, telemetry)
    assert spans["get acme"].parent_id == spans[f"{SERVICE}/GetTask"].span_id


def test_a_call_holds_no_more_spans_than_the_limit(
    receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    with telemetry.tracing.server_span(SERVICE, "GetTask") as span:
        span.keep_children = False
        for _ in range(Held.LIMIT + 3):
            with telemetry.tracing.operation_span("acme", "get"):
                pass
    sent(receiver, telemetry)
    assert len(receiver.spans) == 1 + 3


def test_spans_that_a_library_makes_through_the_api_are_children_too(
    receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    tracer = telemetry.tracing.tracer
    with telemetry.tracing.server_span(SERVICE, "GetTask"):
        with tracer.start_as_current_span("GET", kind=trace.SpanKind.CLIENT) as span:
            span.set_attribute("http.response.status_code", 200)
            span.add_event("sent", {"n": 1})
        with pytest.raises(ValueError, match="x"), tracer.start_as_current_span("PUT"):
            raise ValueError("x")
    spans = sent(receiver, telemetry)
    assert spans["GET"].parent_id == spans[f"{SERVICE}/GetTask"].span_id
    assert (spans["GET"].kind, spans["GET"].events) == ("CLIENT", ("sent",))
    assert (spans["PUT"].status, spans["PUT"].events) == ("ERROR", ("exception",))


def test_http_exports_arrive_as_well(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.http_endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    telemetry = start_telemetry()
    poll(telemetry.tracing)
    telemetry.metrics.adopted("acme")
    spans = sent(receiver, telemetry)
    assert spans["get acme"].resource["service.name"] == "mine"
    assert [metric.name for metric in receiver.metrics] == ["flyteagents_adopted"]


def test_with_no_variable_set_nothing_is_sent_and_ids_are_there() -> None:
    telemetry = start_telemetry()
    try:
        context = telemetry.tracing.task_context(trace_id(TASK), root_span_id("key"))
        with telemetry.tracing.server_span(SERVICE, "GetTask", context=context) as server:
            current = trace.get_current_span().get_span_context()
        assert current.trace_id == trace_id(TASK)
        assert current.span_id != 0
        assert not server.span.is_recording()
        assert not [each for each in threading.enumerate() if each.name.startswith("Otel")]
    finally:
        telemetry.shutdown()


@pytest.mark.parametrize(("ratio", "count"), [("0", 0), ("0.5", 2), ("1", 4)])
def test_the_configured_sampler_decides_for_whole_tasks(
    ratio: str, count: int, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", ratio)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
    telemetry = start_telemetry()
    for low in (1, 2**63 - 1, 2**63 + 1, 2**64 - 1):  # the sampler looks at the low 64 bits
        context = telemetry.tracing.task_context((7 << 64) + low, 5)
        with telemetry.tracing.server_span(SERVICE, "GetTask", context=context):
            pass
    telemetry.shutdown()
    assert len(receiver.spans) == count


def test_a_collector_that_hangs_slows_neither_calls_nor_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(
            "OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}"
        )
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        telemetry = start_telemetry()
        slowest = 0.0
        for _ in range(300):
            began = time.perf_counter()
            poll(telemetry.tracing)
            slowest = max(slowest, time.perf_counter() - began)
        began = time.perf_counter()
        telemetry.shutdown(limit=0.3)
        assert time.perf_counter() - began < 1
        assert slowest < 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:port"),
        ("OTEL_TRACES_EXPORTER", "jaeger"),
        ("OTEL_METRICS_EXPORTER", "statsd"),
        ("OTEL_LOGS_EXPORTER", "x"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1"),
    ],
)
def test_a_bad_value_is_refused_with_the_variables_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv(name, value)
    with pytest.raises(BadTelemetry, match=name):
        start_telemetry()


def test_the_sdk_can_be_switched_off(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    telemetry = start_telemetry(metrics_host="127.0.0.1", metrics_port=0)
    poll(telemetry.tracing)
    telemetry.metrics.adopted("acme")
    telemetry.shutdown()
    assert (receiver.spans, receiver.metrics, telemetry.metrics_port) == ([], [], None)
