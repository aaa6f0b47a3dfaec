"""The Prometheus page."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import MetricReader
from prometheus_client import CollectorRegistry, start_http_server

from flyteagents._telemetry.spreads import Spreads


class Page:
    """Serves the metrics of `reader` over HTTP, in a thread of its own."""

    def __init__(self, host: str, port: int, spreads: Spreads) -> None:
        """Raises OSError when the port cannot be had."""
        # The global one has prometheus_client's metrics of the process on it.
        registry = CollectorRegistry()
        try:
            server, self._thread = start_http_server(port, host.strip("[]"), registry)
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot serve metrics on {host}:{port}: {error.strerror or error}; "
                "set FLYTEAGENTS_METRICS_PORT or FLYTEAGENTS_METRICS_HOST",
            ) from None
        self.port: int = server.server_port
        self._stop: Callable[[], None] = server.shutdown
        self._close: Callable[[], None] = server.server_close
        # Without scope labels: flytekit's page has none.
        self.reader: MetricReader = spreads.added_to(PrometheusMetricReader)(
            scope_info_enabled=False, registry=registry
        )

    def close(self) -> None:
        self._stop()
        self._close()
        self._thread.join(1)
