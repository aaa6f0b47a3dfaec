"""Starts tracing and metrics as the standard `OTEL_*` variables say; unset, nothing is sent."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Sampler,
    TraceIdRatioBased,
)

from flyteagents._telemetry.metrics import Metrics
from flyteagents._telemetry.spans import SpanProvider
from flyteagents._telemetry.tracing import Tracing

SCOPE = "flyteagents"
_OTLP = "OTEL_EXPORTER_OTLP_"
_NUMBER = re.compile(
    r"OTEL_(BSP|BLRP|METRIC_EXPORT|EXPORTER_OTLP)_(.*_)?(DELAY|TIMEOUT|SIZE|INTERVAL)"
)


class BadTelemetry(Exception):
    """A standard variable has a value that cannot be used; the text names it."""


@dataclass
class Telemetry:
    """What the kernel measures with. `metrics_port` is None without a Prometheus page."""

    tracing: Tracing
    metrics: Metrics
    metrics_port: int | None
    _stops: tuple[Callable[[], object], ...]

    def shutdown(self, limit: float = 2.0) -> None:
        """Send what is left. Takes at most `limit` seconds, also when a collector hangs."""
        threads = [Thread(target=_quietly, args=(stop,), daemon=True) for stop in self._stops]
        until = time.monotonic() + limit
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))


def start_telemetry(
    *,
    version: str = "",
    metrics_host: str = "0.0.0.0",  # noqa: S104 # a scraper comes from outside the pod
    metrics_port: int | None = None,
) -> Telemetry:
    """Raises BadTelemetry, and OSError when the page's port cannot be had. A `metrics_port` of 0
    takes a free one."""
    disabled = _env("OTEL_SDK_DISABLED").lower() == "true"
    for name, value in os.environ.items():
        if _NUMBER.fullmatch(name) and not disabled:
            _number(name, value)
    try:
        traces, measured, logs = [
            [] if disabled else _exporters(signal) for signal in ("traces", "metrics", "logs")
        ]
        resource = _resource(version)
        # Spans carry ids for the logs, also where nothing is sent.
        sampler = _sampler() if traces else ALWAYS_OFF
        tracers = SpanProvider(sampler, _processors(traces), resource)
        readers: list[MetricReader] = [PeriodicExportingMetricReader(each) for each in measured]
    except ValueError as error:
        raise BadTelemetry(f"a variable OTEL_* cannot be used: {error}") from None
    stops: list[Callable[[], object]] = [tracers.shutdown]
    port = None
    if metrics_port is not None and not disabled:
        from flyteagents._telemetry.prometheus import Page

        page = Page(metrics_host, metrics_port)
        port = page.port
        readers.append(page.reader)
        stops.append(page.close)
    meters = MeterProvider(readers, resource, shutdown_on_exit=False)
    stops.append(meters.shutdown)
    if logs:
        from flyteagents._telemetry.log_export import LogSender

        stops.append(LogSender(logs, resource).close)
    # For the libraries that ask the API; it can be set but once in a process.
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(tracers)
    return Telemetry(
        Tracing(tracers.get_tracer(SCOPE, version)),
        Metrics(meters.get_meter(SCOPE, version)),
        port,
        tuple(stops),
    )


def _processors(exporters: list[Any]) -> list[SpanProcessor]:
    if not exporters:
        return []
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return [BatchSpanProcessor(exporter) for exporter in exporters]


def _sampler() -> Sampler:
    """What decides for a trace. Our parents carry its decision, so `parentbased_` changes
    nothing."""
    name = _env("OTEL_TRACES_SAMPLER", "parentbased_always_on").lower()
    kind = name.removeprefix("parentbased_")
    if kind == "always_on":
        return ALWAYS_ON
    if kind == "always_off":
        return ALWAYS_OFF
    if kind == "traceidratio":
        variable = "OTEL_TRACES_SAMPLER_ARG"
        ratio = _number(variable, _env(variable, "1"))
        if ratio <= 1:
            return TraceIdRatioBased(ratio)
        raise BadTelemetry(f"{variable} is {ratio}; give a share between 0 and 1")
    raise BadTelemetry(
        f"OTEL_TRACES_SAMPLER is {name!r}; use always_on, always_off or traceidratio, "
        "with or without parentbased_ before it"
    )


def _resource(version: str) -> Resource:
    ours = {
        "service.name": SCOPE,
        "service.instance.id": str(uuid.uuid4()),
        **({"service.version": version} if version else {}),
    }
    # Later ones win: the environment has the last word.
    return Resource.create().merge(Resource(ours)).merge(OTELResourceDetector().detect())


def _exporters(signal: str) -> list[Any]:
    """The exporters of "traces", "metrics" or "logs"; none where no variable asks for one."""
    endpoints = (f"{_OTLP}{signal.upper()}_ENDPOINT", f"{_OTLP}ENDPOINT")
    # Logs are on stderr already, and many collectors take none: only when asked for by name.
    asked = signal != "logs" and any(map(_env, endpoints))
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    made = []
    for name in _env(variable, "otlp" if asked else "none").lower().split(","):
        kind = name.strip()
        if kind == "otlp":
            made.append(_otlp(signal, endpoints))
        elif kind == "console":
            made.append(_load(f"opentelemetry.sdk.{_MODULES[signal][0]}", _MODULES[signal][1]))
        elif kind not in ("none", "prometheus" if signal == "metrics" else "none"):
            raise BadTelemetry(f"{variable} is {name!r}; use otlp, console or none")
    return made


_MODULES = {
    "traces": ("trace.export", "ConsoleSpanExporter", "trace_exporter", "OTLPSpanExporter"),
    "metrics": (
        "metrics.export", "ConsoleMetricExporter", "metric_exporter", "OTLPMetricExporter"
    ),
    "logs": ("_logs.export", "ConsoleLogRecordExporter", "_log_exporter", "OTLPLogExporter"),
}  # fmt: skip


def _otlp(signal: str, endpoints: tuple[str, ...]) -> Any:
    own = f"{_OTLP}{signal.upper()}_PROTOCOL"
    variable = own if _env(own) else f"{_OTLP}PROTOCOL"
    protocol = _env(variable, "grpc")
    package = {"grpc": "grpc", "http/protobuf": "http"}.get(protocol)
    if package is None:
        raise BadTelemetry(f"{variable} is {protocol!r}; use grpc or http/protobuf")
    for name in endpoints:
        _check_endpoint(name, _env(name), package)
    return _load(
        f"opentelemetry.exporter.otlp.proto.{package}.{_MODULES[signal][2]}", _MODULES[signal][3]
    )


def _load(module: str, name: str) -> Any:
    # Imported only when asked for: OTLP over gRPC costs 15 MB and 0.2 s.
    try:
        return getattr(import_module(module), name)()
    except Exception as error:  # noqa: BLE001 # whatever it is, it comes from the variables
        raise BadTelemetry(f"{_OTLP}*: {type(error).__name__}: {error}") from None


def _check_endpoint(variable: str, value: str, package: str) -> None:
    try:
        parts = urlsplit(value)
        # gRPC also takes a bare host:port, which is no URL.
        bare = package == "grpc" and "//" not in value and urlsplit(f"//{value}").port is not None
        good = bare or (parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
    except ValueError:
        good = False
    if value and not good:
        raise BadTelemetry(f"{variable} is no such URL as http://collector:4317; give one")


def _number(variable: str, value: str) -> float:
    try:
        number = float(value or 0)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e12:
        raise BadTelemetry(f"{variable} is no number from 0 on; give one")
    return number


def _env(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def _quietly(stop: Callable[[], object]) -> None:
    with suppress(Exception):
        stop()
