"""Starts tracing and metrics as the standard `OTEL_*` variables say; unset, nothing is sent."""

from __future__ import annotations

import logging
import os
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any

from importlib_metadata import entry_points
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from flyteagents._telemetry.held_spans import HoldingProcessor
from flyteagents._telemetry.late_spans import LateSpanExporter
from flyteagents._telemetry.metrics import Metrics
from flyteagents._telemetry.spreads import Spreads
from flyteagents._telemetry.tracing import SCOPE, Tracing

# The SDK would log a value that it cannot use, and go on with another one. It may be a secret that
# was put into the wrong variable, so it stops the start without being shown.
_FORMS = (
    (
        r"OTEL_(BSP|METRIC_EXPORT|EXPORTER_OTLP)_(.*_)?(DELAY|TIMEOUT|SIZE|INTERVAL)",
        r"\d+(\.\d+)?",
        "a number from 0 on",
    ),
    (
        r"OTEL_EXPORTER_OTLP_((TRACES|METRICS)_)?ENDPOINT",
        r"https?://[^/\s:]+(:\d+)?(/\S*)?|[^/\s:]+:\d+",
        "a URL such as http://collector:4317",
    ),
    (
        r"OTEL_TRACES_SAMPLER",
        r"(parentbased_)?(always_on|always_off|traceidratio)",
        "always_on, always_off or traceidratio, with or without parentbased_ before it",
    ),
    (r"OTEL_TRACES_SAMPLER_ARG", r"0?\.\d+|0|1(\.0*)?", "a share between 0 and 1"),
    (
        r"OTEL_EXPORTER_OTLP_((TRACES|METRICS)_)?HEADERS",
        r"[^=,\s:]+=[^,]*(,\s*[^=,\s:]+=[^,]*)*,?",
        "a list of name=value, with commas between",
    ),
)


log = logging.getLogger("flyteagents")


class BadTelemetry(Exception):
    """A standard variable has a value that cannot be used; the text names it."""


@dataclass
class Telemetry:
    """What the kernel measures with. `metrics_port` is None without a Prometheus page."""

    tracing: Tracing
    metrics: Metrics
    metrics_port: int | None
    _stops: list[Callable[[], object]]

    def shutdown(self, limit: float = 2.0) -> None:
        """Send what is left. Takes at most `limit` seconds, also when a collector hangs."""
        # All at once, and daemons: one that hangs would hold up the others, then the exit.
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
    if not disabled:
        _check_forms()
        if _env("OTEL_LOGS_EXPORTER", "none").lower() != "none":
            log.warning("OTEL_LOGS_EXPORTER is not read: log lines go to stderr, as JSON")
    traces, measured = [[] if disabled else _exporters(each) for each in ("traces", "metrics")]
    ours = {"service.name": SCOPE, "service.version": version}
    ours["service.instance.id"] = str(uuid.uuid4())
    # Later ones win: the environment has the last word.
    resource = Resource.create().merge(Resource(ours)).merge(OTELResourceDetector().detect())
    # Spans carry ids for the logs, also where nothing is sent. The SDK reads the sampler's
    # variables; our parents carry its decision.
    spreads = Spreads(SCOPE, measured)
    try:
        # The SDK's own hook at exit would wait for a dead collector without our limit.
        tracers = TracerProvider(None if traces else ALWAYS_OFF, resource, shutdown_on_exit=False)
        spans = HoldingProcessor([_batches(exporter) for exporter in traces])
        readers: list[MetricReader] = [spreads.reader(each) for each in measured]
    except ValueError as error:  # numbers that do not go together
        raise BadTelemetry(f"the variables OTEL_BSP_* or OTEL_METRIC_*: {error}") from None
    tracers.add_span_processor(spans)
    stops: list[Callable[[], object]] = [tracers.shutdown]
    port = None
    if metrics_port is not None and not disabled:
        from flyteagents._telemetry.prometheus import Page

        page = Page(metrics_host, metrics_port, spreads)
        port = page.port
        readers.append(page.reader)
        stops.append(page.close)
    meters = MeterProvider(readers, resource, shutdown_on_exit=False)
    stops.append(meters.shutdown)
    # For the libraries that ask the API; it can be set but once in a process.
    if traces and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(tracers)
    metrics = Metrics(meters.get_meter(SCOPE, version), spreads)
    return Telemetry(Tracing(tracers, spans, version), metrics, port, stops)


def _batches(exporter: Any) -> SpanProcessor:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if type(exporter).__module__.startswith("opentelemetry.exporter.otlp."):
        from flyteagents._telemetry.otlp import use_for

        if use_for(exporter):
            return BatchSpanProcessor(exporter)
    return BatchSpanProcessor(LateSpanExporter(exporter))


def _exporters(signal: str) -> list[Any]:
    """The exporters of "traces" or "metrics" that the variables name: any that an installed
    package offers, and none where no variable asks for one."""
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}"
    asked = _env(f"{own}_ENDPOINT") or _env("OTEL_EXPORTER_OTLP_ENDPOINT")
    protocol = _env(f"{own}_PROTOCOL") or _env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    names = _env(variable, "otlp" if asked else "none").lower().split(",")
    named = {name.strip() for name in names}
    made = []
    for name in sorted(named - {"none", "prometheus"}):  # the page has settings of its own
        full = f"otlp_proto_{protocol.partition('/')[0]}" if name == "otlp" else name
        offered = entry_points(group=f"opentelemetry_{signal}_exporter")
        if full not in offered.names:
            there = ", ".join(sorted(offered.names))
            raise BadTelemetry(
                f"{variable} is {name!r}, with OTEL_EXPORTER_OTLP_PROTOCOL {protocol!r}; "
                f"installed are {there}; use otlp, with grpc or http/protobuf, console or none"
            )
        try:
            # Imported only when asked for: OTLP over gRPC costs 15 MB and 0.2 s.
            made.append(offered[full].load()())
        except Exception as error:  # noqa: BLE001 # whatever it is, it comes from the variables
            raise BadTelemetry(f"{variable}={name}: a variable OTEL_*: {error}") from None
    return made


def _check_forms() -> None:
    for name in os.environ:
        for names, form, words in _FORMS:
            value = _env(name) if re.fullmatch(names, name) else ""
            if value and not re.fullmatch(form, value, re.IGNORECASE):
                raise BadTelemetry(f"{name} is not {words}")


def _env(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def _quietly(stop: Callable[[], object]) -> None:
    with suppress(Exception):
        stop()
