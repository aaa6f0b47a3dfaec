from __future__ import annotations

import asyncio
import contextvars
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from opentelemetry import trace

from flyteagents import Identity
from flyteagents._telemetry.held_spans import LIMIT
from flyteagents._telemetry.providers import BadTelemetry, Telemetry, start_telemetry
from flyteagents._telemetry.tracing import Rpc, Tracing, root_span_id, trace_id, vendor_span
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


def begun(tracing: Tracing, created: float | None = None, traceparent: str = "") -> Rpc:
    """A GetTask that was read, for a job created at `created` (None: now)."""
    metadata = [("traceparent", traceparent)] if traceparent else None
    rpc = Rpc(tracing, f"{SERVICE}/GetTask", lambda: metadata)
    at = time.time() if created is None else created
    rpc.begin(tracing.attempt(trace_id(TASK), "key", "acme", Identity(project="p", attempt=2), at))
    return rpc


def poll(tracing: Tracing, code: str = "OK", message: str = "") -> None:
    """A GetTask in a context of its own, as gRPC gives it one."""

    def call() -> None:
        rpc = begun(tracing)
        with tracing.operation("acme", "get"):
            pass
        rpc.end(code, message)

    contextvars.copy_context().run(call)


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
        telemetry.tracing.job(
            trace_id(TASK), "key", "job acme", now - 60, now, {"flyte.job.rows": 3}, "no"
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


async def test_a_server_span_has_the_rpc_attributes_and_the_callers_context_as_a_link(
    receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    before = time.time_ns()
    rpc = Rpc(telemetry.tracing, f"{SERVICE}/GetTask", lambda: [("traceparent", TRACEPARENT)])
    read = time.time_ns()
    rpc.begin(
        telemetry.tracing.attempt(
            trace_id(TASK), "key", "acme", Identity(project="p", attempt=2), time.time()
        )
    )
    rpc.end("NOT_FOUND", "no such thing")
    span = sent(receiver, telemetry)[f"{SERVICE}/GetTask"]
    assert span.kind == "SERVER"
    assert before <= span.start <= read  # dated back to the arrival
    assert span.links == (("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"),)
    assert span.trace_id == f"{trace_id(TASK):032x}"
    assert span.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": f"{SERVICE}/GetTask",
        "rpc.response.status_code": "NOT_FOUND",
        "flyte.task_type": "acme",
        "flyte.project": "p",
        "flyte.domain": "",
        "flyte.execution": "",
        "flyte.node": "",
        "flyte.attempt": 2,
    }
    assert span.resource["service.name"] == "flyteagents"


async def test_a_call_that_could_not_be_read_has_a_trace_of_its_own(
    receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    Rpc(telemetry.tracing, f"{SERVICE}/GetTask").end("INVALID_ARGUMENT", "not a GetTaskRequest")
    span = sent(receiver, telemetry)[f"{SERVICE}/GetTask"]
    assert (span.parent_id, span.attributes["rpc.response.status_code"]) == ("", "INVALID_ARGUMENT")


@pytest.mark.parametrize("broken", ["", "00-zz", "00-" + "0" * 32 + "-b7ad6b7169203331-01"])
async def test_a_traceparent_that_is_none_links_to_nothing(
    broken: str, receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    begun(telemetry.tracing, traceparent=broken).end("OK", "")
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
    poll(telemetry.tracing, code, "Bearer abcdef0123456789abcdef")
    received = sent(receiver, telemetry)[f"{SERVICE}/GetTask"]
    assert received.status == status
    assert "abcdef" not in received.message


def test_an_exception_becomes_a_status_and_no_event_and_tells_no_secret(
    receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    with pytest.raises(RuntimeError), telemetry.tracing.operation("acme", "get"):
        raise RuntimeError("password=hunter2hunter2")
    operation = sent(receiver, telemetry)["get acme"]
    assert operation.attributes["error.type"] == "RuntimeError"
    assert (operation.status, operation.events) == ("ERROR", ())
    assert "hunter2" not in operation.message


async def test_work_that_is_cancelled_is_no_error(
    receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    async def work() -> None:
        with telemetry.tracing.operation("acme", "get"):
            await asyncio.sleep(10)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert sent(receiver, telemetry)["get acme"].status == "UNSET"


@pytest.mark.parametrize(("age", "changed"), [(601, True), (599, False)])
async def test_a_poll_keeps_its_children_when_it_is_young_or_changed_something(
    age: float, changed: bool, receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    rpc = begun(telemetry.tracing, time.time() - age)
    with telemetry.tracing.operation("acme", "get"), vendor_span("GET", {}):
        pass
    rpc.changed = changed
    rpc.end("OK", "")
    spans = sent(receiver, telemetry)
    server = spans[f"{SERVICE}/GetTask"]
    if changed:
        assert spans["get acme"].parent_id == server.span_id
        assert spans["GET"].parent_id == spans["get acme"].span_id
    else:  # the agent's own span would say no more than the call's
        assert set(spans) == {server.name, "GET"}
        assert spans["GET"].parent_id == server.span_id


async def test_an_old_poll_that_changed_nothing_keeps_its_span_and_drops_its_children(
    receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    rpc = begun(telemetry.tracing, time.time() - 601)
    rpc.changed = False
    for _ in range(LIMIT + 3):
        with telemetry.tracing.operation("acme", "get"):
            pass
    rpc.end("OK", "")
    sent(receiver, telemetry)
    assert len(receiver.spans) == 1 + 3  # a call holds no more than its limit


async def test_work_that_ends_after_its_call_is_sent_whatever_the_call_thought(
    receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    async def work() -> None:
        with telemetry.tracing.operation("acme", "get"):
            await asyncio.sleep(0.01)

    rpc = begun(telemetry.tracing, time.time() - 601)
    rpc.changed = False
    detached = asyncio.create_task(work())
    await asyncio.sleep(0)
    rpc.end("OK", "")
    await detached
    spans = sent(receiver, telemetry)
    assert spans["get acme"].parent_id == spans[f"{SERVICE}/GetTask"].span_id


async def test_spans_that_a_library_makes_through_the_api_are_children_too(
    receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    rpc = begun(telemetry.tracing)
    with telemetry.tracing.tracer.start_as_current_span("GET", kind=trace.SpanKind.CLIENT) as span:
        span.set_attribute("http.response.status_code", 200)
    rpc.end("OK", "")
    spans = sent(receiver, telemetry)
    assert spans["GET"].parent_id == spans[f"{SERVICE}/GetTask"].span_id
    assert spans["GET"].kind == "CLIENT"


async def test_what_a_librarys_span_says_of_an_error_tells_no_secret(
    receiver: OtlpReceiver, telemetry: Telemetry
) -> None:
    def fail() -> None:
        with telemetry.tracing.tracer.start_as_current_span("theirs") as span:
            span.add_event("noted", {"text": "password=hunter2hunter2"})
            raise ValueError("password=hunter2hunter2")

    with pytest.raises(ValueError, match="hunter2"):
        fail()
    received = sent(receiver, telemetry)["theirs"]
    assert received.events == ("noted", "exception")
    assert received.status == "ERROR"
    assert "hunter2" not in repr(received)


def test_http_exports_arrive_as_well(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.http_endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    telemetry = start_telemetry()
    poll(telemetry.tracing)
    telemetry.metrics.adopted.add("acme")
    spans = sent(receiver, telemetry)
    assert spans["get acme"].resource["service.name"] == "mine"
    assert "flyteagents_adopted" in [metric.name for metric in receiver.metrics]


async def test_with_no_variable_set_nothing_is_sent_and_ids_are_there() -> None:
    telemetry = start_telemetry()
    try:
        begun(telemetry.tracing)
        current = trace.get_current_span()
        assert current.get_span_context().trace_id == trace_id(TASK)
        assert current.get_span_context().span_id != 0
        assert not current.is_recording()
        assert not [each for each in threading.enumerate() if each.name.startswith("Otel")]
    finally:
        telemetry.shutdown()


@pytest.mark.parametrize(("ratio", "count"), [("0", 0), ("0.5", 2), ("1", 4)])
async def test_the_configured_sampler_decides_for_whole_tasks(
    ratio: str, count: int, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", ratio)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
    telemetry = start_telemetry()
    for low in (1, 2**63 - 1, 2**63 + 1, 2**64 - 1):  # the sampler looks at the low 64 bits
        rpc = Rpc(telemetry.tracing, f"{SERVICE}/GetTask")
        rpc.begin(
            telemetry.tracing.attempt((7 << 64) + low, "key", "acme", Identity(), time.time())
        )
        rpc.end("OK", "")
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
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "6")
        before = set(threading.enumerate())
        telemetry = start_telemetry()
        slowest = 0.0
        for _ in range(300):
            began = time.perf_counter()
            poll(telemetry.tracing)
            slowest = max(slowest, time.perf_counter() - began)
        began = time.perf_counter()
        telemetry.shutdown(limit=0.3)
        # Neither waits for the collector; what else this machine does takes less than that.
        assert time.perf_counter() - began < 5
        assert slowest < 5
        # Nothing of it runs on into the next test, where its sockets would be found unclosed.
        for thread in set(threading.enumerate()) - before:
            thread.join(60)
            assert not thread.is_alive(), thread


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon"),
        ("OTEL_TRACES_EXPORTER", "jaeger"),
        ("OTEL_METRICS_EXPORTER", "statsd"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:port"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key: not-shown"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
    ],
)
def test_a_bad_value_is_refused_with_the_variables_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv(name, value)
    with pytest.raises(BadTelemetry, match=name if value != "0" else "OTEL_BSP"):
        start_telemetry()


def _polls_a_vendor_untraced(tracing: Tracing) -> None:
    """The trace's ids are there for log lines, and the request says that nobody sees them."""
    rpc = begun(tracing)
    server = trace.get_current_span().get_span_context()
    with tracing.operation("acme", "get"), vendor_span("GET", {}) as span:
        assert not span.is_recording()
        assert trace.get_current_span().get_span_context() == server
        assert (server.trace_id, int(server.trace_flags)) == (trace_id(TASK), 0)
    rpc.end("OK", "")


def test_the_sdk_can_be_switched_off(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    telemetry = start_telemetry(metrics_host="127.0.0.1", metrics_port=0)
    poll(telemetry.tracing)
    contextvars.copy_context().run(_polls_a_vendor_untraced, telemetry.tracing)
    telemetry.metrics.adopted.add("acme")
    telemetry.shutdown()
    assert (receiver.spans, receiver.metrics, telemetry.metrics_port) == ([], [], None)
