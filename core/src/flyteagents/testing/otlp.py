"""A real OTLP receiver, over gRPC and over HTTP, that keeps what it gets.

It decodes what crossed the wire, so that a test sees what a collector would, and not what the SDK
held in memory.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

Value = str | bool | int | float | bytes | list[Any] | dict[str, Any] | None
Attributes = Mapping[str, Value]
_STATUSES = ("UNSET", "OK", "ERROR")
_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")


@dataclass(frozen=True)
class ReceivedSpan:
    """A span; ids in hex, `parent_id` empty for a root; times in nanoseconds; links as pairs of
    trace id and span id; events by name."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    start: int
    end: int
    status: str
    message: str
    attributes: Attributes
    links: tuple[tuple[str, str], ...]
    events: tuple[str, ...]
    resource: Attributes


@dataclass(frozen=True)
class ReceivedMetric:
    """One data point. `value` is the sum for a histogram, and `count` its observations."""

    name: str
    value: float
    count: int
    attributes: Attributes


class OtlpReceiver:
    """Listens on free ports of 127.0.0.1 from the start until `stop`; a context manager.

    ```python
    with OtlpReceiver() as receiver:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        ...
        assert receiver.wait(lambda: len(receiver.spans) == 3)
    ```
    """

    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []
        self.metrics: list[ReceivedMetric] = []
        self._arrived = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(2))
        for signal in _SIGNALS:
            self._server.add_generic_rpc_handlers((self._methods(signal),))
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._http_class())
        self.http_endpoint = f"http://127.0.0.1:{self._http.server_port}"
        # `shutdown` waits for the next look at the socket, and by default there are two a second.
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def wait(self, until: Callable[[], bool], timeout: float = 5.0) -> bool:
        """Wait until `until()` holds; it is asked again whenever something has arrived."""
        with self._arrived:
            return self._arrived.wait_for(until, timeout)

    def stop(self) -> None:
        self._server.stop(0).wait()
        self._http.shutdown()
        self._http.server_close()

    def __enter__(self) -> OtlpReceiver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _methods(self, signal: _Signal) -> grpc.GenericRpcHandler:
        def export(raw: bytes, context: grpc.ServicerContext) -> bytes:
            return self._take(signal, raw)

        return grpc.method_handlers_generic_handler(
            f"opentelemetry.proto.collector.{signal.service}",
            {"Export": grpc.unary_unary_rpc_method_handler(export)},
        )

    def _take(self, signal: _Signal, raw: bytes) -> bytes:
        request = signal.request.FromString(raw)
        with self._arrived:
            getattr(self, signal.name).extend(signal.read(request))
            self._arrived.notify_all()
        return bytes(signal.response().SerializeToString())

    def _http_class(receiver) -> type[BaseHTTPRequestHandler]:  # noqa: N805 # `self` is below
        class Request(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    raw = gzip.decompress(raw)
                found = [each for each in _SIGNALS if each.path == self.path]
                reply = receiver._take(found[0], raw) if found else b""
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # its name
                pass

        return Request


@dataclass(frozen=True)
class _Signal:
    name: str
    service: str
    path: str
    request: Any
    response: Any
    read: Callable[[Any], Iterable[Any]]


def _spans(request: ExportTraceServiceRequest) -> Iterable[ReceivedSpan]:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield ReceivedSpan(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    _KINDS[span.kind],
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    _STATUSES[span.status.code],
                    span.status.message,
                    _attributes(span.attributes),
                    tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                    tuple(event.name for event in span.events),
                    _attributes(resource.resource.attributes),
                )


def _metrics(request: ExportMetricsServiceRequest) -> Iterable[ReceivedMetric]:
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                data = getattr(metric, metric.WhichOneof("data") or "gauge")
                for point in data.data_points:
                    histogram = hasattr(point, "bucket_counts")
                    value = point.sum if histogram else getattr(point, point.WhichOneof("value"))
                    count = point.count if histogram else 1
                    yield ReceivedMetric(
                        metric.name, float(value), count, _attributes(point.attributes)
                    )


_SIGNALS = (
    _Signal(
        "spans",
        "trace.v1.TraceService",
        "/v1/traces",
        ExportTraceServiceRequest,
        ExportTraceServiceResponse,
        _spans,
    ),
    _Signal(
        "metrics",
        "metrics.v1.MetricsService",
        "/v1/metrics",
        ExportMetricsServiceRequest,
        ExportMetricsServiceResponse,
        _metrics,
    ),
)


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Value]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Value:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    plain: Value = getattr(value, kind) if kind else None
    return plain
