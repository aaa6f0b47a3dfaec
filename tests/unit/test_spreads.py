"""Histograms that are read when they are collected, beside the SDK's own."""

from __future__ import annotations

import os
import urllib.request
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from flyteagents._telemetry import spreads
from flyteagents._telemetry.providers import start_telemetry
from flyteagents._telemetry.spreads import ReadSpread, Spreads
from flyteagents.testing.otlp import OtlpReceiver

BOUNDS = (0.005, 1, 2.5, 60)
values = st.floats(0, 100) | st.sampled_from([0.005, 1, 2.5, 60, 0, 61])
labels = st.sampled_from([("a", "x"), ("a", "y"), ("b", "x")])


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


def collected(ours: bool, records: list[tuple[float, tuple[str, str]]]) -> list[Any]:
    """What a reader of the SDK's is told, but for times."""
    made = Spreads("scope", ())
    made._ours = ours
    reader = made.added_to(InMemoryMetricReader)()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    meter = provider.get_meter("scope")
    meter.create_counter("other").add(1)
    spread = made.make(meter, "seconds", "s", "Time", BOUNDS, ("agent", "status"))
    for value, names in records:
        spread.record(value, *names)
    data = reader.get_metrics_data()
    assert data is not None
    (scope,) = data.resource_metrics[0].scope_metrics
    provider.shutdown()
    found = {metric.name: metric for metric in scope.metrics}
    assert "other" in found
    if "seconds" not in found:
        return []
    metric = found["seconds"]
    points = [
        (
            sorted(point.attributes.items()),
            point.count,
            pytest.approx(point.sum),
            list(point.bucket_counts),
            list(point.explicit_bounds),
            point.min,
            point.max,
        )
        for point in metric.data.data_points
    ]
    points.sort(key=lambda point: point[0])
    kind = (metric.name, metric.unit, metric.description, metric.data.aggregation_temporality)
    return [kind, points]


@settings(max_examples=50)
@given(st.lists(st.tuples(values, labels), max_size=30))
def test_a_reader_is_told_the_same(records: list[tuple[float, tuple[str, str]]]) -> None:
    assert collected(True, records) == collected(False, records)


def played(ours: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[tuple[Any, ...]]]:
    """The page, and what a collector was sent."""
    monkeypatch.setattr(spreads, "OURS", ours)
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", receiver.endpoint)
        telemetry = start_telemetry(metrics_host="127.0.0.1", metrics_port=0)
        telemetry.metrics.serve("acme", synchronous=False)
        for seconds in (0.004, 0.005, 0.3, 70):
            telemetry.metrics.requests("acme", "get").answered(seconds, "OK")
            telemetry.metrics.vendor_request("acme", 503, seconds)
            telemetry.metrics.lag.record(seconds)
        telemetry.metrics.inputs("acme").record(300)
        telemetry.metrics.requests("acme", "delete")  # nothing is counted yet, so nothing is shown
        page = f"http://127.0.0.1:{telemetry.metrics_port}/metrics"
        with urllib.request.urlopen(page, timeout=5) as reply:
            lines = reply.read().decode().splitlines()
        telemetry.shutdown()
        sent = sorted(
            (metric.name, sorted(metric.attributes.items()), metric.value, metric.count)
            for metric in receiver.metrics
        )
    return "\n".join(sorted(line for line in lines if "service_instance_id" not in line)), sent


@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
def test_the_page_and_a_collector_see_no_difference(
    temporality: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
    monkeypatch.setenv(name, temporality)
    ours, theirs = played(True, monkeypatch), played(False, monkeypatch)
    assert ours == theirs
    assert "flyteagents_loop_lag_seconds" in {metric[0] for metric in ours[1]}
    assert 'le="0.005"' in ours[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "base2_exponential_bucket_histogram",
        ),
    ],
)
def test_what_we_do_not_make_is_the_librarys(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", receiver.endpoint)
        telemetry = start_telemetry()
        assert isinstance(telemetry.metrics.lag, ReadSpread)
        telemetry.shutdown()
        monkeypatch.setenv(name, value)
        telemetry = start_telemetry()
        assert not isinstance(telemetry.metrics.lag, ReadSpread)
        telemetry.shutdown()
