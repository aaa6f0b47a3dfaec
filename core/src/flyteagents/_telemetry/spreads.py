"""Histograms that are read when metrics are collected.

To record one number takes the SDK's histogram 11 microseconds, and a poll records two; here it is
half of one. What is read goes through the SDK's readers, so the page and OTLP look the same as with
its own. Its own are taken where an exporter wants another form than sums over the process's life in
our buckets (delta temporality, exponential buckets), or with `OURS = False`;
`tests/unit/test_spreads.py` compares the two.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import Histogram as Instrument
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)

OURS = True


class Series(Protocol):
    """How often which values came, for one value of each label."""

    def record(self, value: float) -> None: ...


class Spread(Protocol):
    """How often which values came, by the values of its labels."""

    def record(self, value: float, *labels: str) -> None: ...

    def series(self, *labels: str) -> Series:
        """That of these labels, for who records into it again and again."""


class _ReadSeries:
    """Written by one thread only, and read by others."""

    __slots__ = ("bounds", "counts", "least", "most", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.least = math.inf
        self.most = -math.inf

    def record(self, value: float) -> None:
        # A bound belongs to the bucket that it ends, as in the SDK's own.
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
        if value < self.least:
            self.least = value
        if value > self.most:
            self.most = value


class ReadSpread:
    """A histogram of ours."""

    def __init__(
        self, name: str, unit: str, text: str, bounds: Sequence[float], labels: Sequence[str]
    ) -> None:
        self._name = name
        self._unit = unit
        self._text = text
        self._bounds = tuple(bounds)
        self._labels = tuple(labels)
        self._since = time.time_ns()
        self._series: dict[tuple[str, ...], _ReadSeries] = {}

    def record(self, value: float, *labels: str) -> None:
        self.series(*labels).record(value)

    def series(self, *labels: str) -> _ReadSeries:
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = _ReadSeries(self._bounds)
        return series

    def metric(self) -> Metric:
        """As the SDK's readers take it."""
        return Metric(
            self._name,
            self._text,
            self._unit,
            Histogram(list(self._points()), AggregationTemporality.CUMULATIVE),
        )

    def _points(self) -> Iterator[HistogramDataPoint]:
        now = time.time_ns()
        for values, series in self._series.copy().items():
            # Their sum is taken of the copy: the count must fit the buckets, whatever is recorded
            # meanwhile.
            counts = series.counts.copy()
            if not any(counts):
                continue
            yield HistogramDataPoint(
                attributes=dict(zip(self._labels, values, strict=True)),
                start_time_unix_nano=self._since,
                time_unix_nano=now,
                count=sum(counts),
                sum=series.total,
                bucket_counts=counts,
                explicit_bounds=self._bounds,
                min=series.least,
                max=series.most,
            )


@dataclass
class _LibrarySeries:
    instrument: Any
    attributes: dict[str, str]

    def record(self, value: float) -> None:
        self.instrument.record(value, self.attributes)


class _LibrarySpread:
    def __init__(self, instrument: Any, labels: Sequence[str]) -> None:
        self._instrument = instrument
        self._labels = tuple(labels)

    def record(self, value: float, *labels: str) -> None:
        self.series(*labels).record(value)

    def series(self, *labels: str) -> Series:
        return _LibrarySeries(self._instrument, dict(zip(self._labels, labels, strict=True)))


class Spreads:
    """Makes the histograms of one meter, and adds them to what its readers collect."""

    def __init__(self, scope: str, exporters: Sequence[MetricExporter]) -> None:
        self._scope = scope
        self._made: list[ReadSpread] = []
        self._ours = OURS and all(map(_plain, exporters))

    def make(
        self,
        meter: Meter,
        name: str,
        unit: str,
        text: str,
        bounds: Sequence[float],
        labels: Sequence[str],
    ) -> Spread:
        if self._ours:
            self._made.append(ReadSpread(name, unit, text, bounds, labels))
            return self._made[-1]
        instrument = meter.create_histogram(
            name, unit, text, explicit_bucket_boundaries_advisory=bounds
        )
        return _LibrarySpread(instrument, labels)

    def reader(self, exporter: MetricExporter) -> MetricReader:
        """Sends all metrics again and again, these among them."""
        reader: MetricReader = self.added_to(PeriodicExportingMetricReader)(exporter)
        return reader

    def added_to(self, reader: type[MetricReader]) -> Any:
        """The class, whose objects are told of these histograms too."""
        spreads = self

        # The SDK's documented place for subclasses (`MetricReader`, `_receive_metrics`).
        class Reader(reader):  # type: ignore[misc, valid-type] # either reader of the SDK's
            def _receive_metrics(self, metrics_data: MetricsData, *more: Any, **named: Any) -> None:
                super()._receive_metrics(spreads._with(metrics_data), *more, **named)

        return Reader

    def _with(self, data: MetricsData) -> MetricsData:
        made = [
            metric for metric in (each.metric() for each in self._made) if metric.data.data_points
        ]
        if not made:
            return data
        resources = [
            replace(
                resource,
                scope_metrics=[
                    # The SDK makes no scope that has nothing to collect; see `Metrics.blocked`.
                    replace(scope, metrics=[*scope.metrics, *made])
                    if scope.scope.name == self._scope
                    else scope
                    for scope in resource.scope_metrics
                ],
            )
            for resource in data.resource_metrics
        ]
        return replace(data, resource_metrics=resources)


def _plain(exporter: MetricExporter) -> bool:
    """Whether an exporter takes histograms as they are here."""
    # The SDK's reader asks an exporter in the same way (PeriodicExportingMetricReader.__init__).
    temporality = exporter._preferred_temporality or {}  # noqa: SLF001
    aggregation = exporter._preferred_aggregation or {}  # noqa: SLF001
    asked = aggregation.get(Instrument)
    return temporality.get(
        Instrument, AggregationTemporality.CUMULATIVE
    ) is AggregationTemporality.CUMULATIVE and (
        asked is None or type(asked).__name__ == "ExplicitBucketHistogramAggregation"
    )
