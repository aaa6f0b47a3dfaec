from __future__ import annotations

import os
import socket
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flyteagents._telemetry.providers import Telemetry, start_telemetry
from flyteagents.testing.otlp import OtlpReceiver


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    started = start_telemetry(metrics_host="127.0.0.1", metrics_port=0)
    yield started
    started.shutdown()


@pytest.fixture
def scrape(telemetry: Telemetry) -> Callable[[], dict[str, float]]:
    """Reads the page; samples by name and labels, as `name{a=b}`, with labels sorted."""

    def read() -> dict[str, float]:
        page = f"http://127.0.0.1:{telemetry.metrics_port}/metrics"
        with urllib.request.urlopen(page, timeout=5) as reply:
            text = reply.read().decode()
        samples = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
                samples[f"{sample.name}{{{labels}}}"] = sample.value
        return samples

    return read


def test_the_page_has_flytekits_names_and_labels(
    telemetry: Telemetry, scrape: Callable[[], dict[str, float]]
) -> None:
    metrics = telemetry.metrics
    metrics.requests("acme", "create").answered(0.5, "OK")
    metrics.requests("acme", "create").answered(0.25, "OK")
    metrics.requests("acme", "get").answered(0.1, "NOT_FOUND")
    metrics.requests("acme", "delete").answered(0.1, "SOMETHING_NEW")
    metrics.inputs("acme").record(300)
    samples = scrape()
    expected = {
        "flyte_connector_requests_success_total{operation=create,task_type=acme}": 2,
        "flyte_connector_requests_failure_total{error_code=404,operation=get,task_type=acme}": 1,
        "flyte_connector_requests_failure_total{error_code=500,operation=delete,task_type=acme}": 1,
        "flyte_connector_request_latency_seconds_count{operation=create,task_type=acme}": 2,
        "flyte_connector_request_latency_seconds_sum{operation=create,task_type=acme}": 0.75,
        "flyte_connector_input_literal_bytes_sum{task_type=acme}": 300,
        "flyte_connector_input_literal_bytes_count{task_type=acme}": 1,
    }
    assert {name: samples.get(name) for name in expected} == expected


def test_the_buckets_are_seconds_that_matter(
    telemetry: Telemetry, scrape: Callable[[], dict[str, float]]
) -> None:
    telemetry.metrics.requests("acme", "get").answered(0.2, "OK")
    samples = scrape()
    bucket = "flyte_connector_request_latency_seconds_bucket"
    assert samples[f"{bucket}{{le=0.1,operation=get,task_type=acme}}"] == 0
    assert samples[f"{bucket}{{le=0.25,operation=get,task_type=acme}}"] == 1


def test_everything_that_is_counted_shows(
    telemetry: Telemetry, scrape: Callable[[], dict[str, float]]
) -> None:
    metrics = telemetry.metrics
    metrics.hiccups.add("acme", "Throttled")
    metrics.hiccups.add("acme", "Throttled")
    metrics.adopted.add("acme")
    metrics.parked.add("acme", "FAILED")
    metrics.abandoned.add("acme")
    metrics.cancels_unconfirmed.add("acme", "forbidden")
    metrics.admission.add("acme", "create", "refused")
    metrics.vendor_request("acme", 503, 0.1)
    metrics.vendor_request("acme", None, 0.1)
    metrics.lag.record(0.01)
    metrics.blocked.add("acme", amount=1.5)
    ages = {"acme": 30.0}
    metrics.watch(
        "flyteagents_oldest_hiccup_seconds",
        "s",
        "Age",
        "agent",
        read=lambda: {(agent,): age for agent, age in ages.items()},
    )
    expected = {
        "flyteagents_hiccups_total{agent=acme,cause=Throttled}": 2,
        "flyteagents_adopted_total{agent=acme}": 1,
        "flyteagents_parked_total{agent=acme,phase=FAILED}": 1,
        "flyteagents_abandoned_total{agent=acme}": 1,
        "flyteagents_cancels_unconfirmed_total{agent=acme,why=forbidden}": 1,
        "flyteagents_admission_total{agent=acme,operation=create,outcome=refused}": 1,
        "flyteagents_vendor_request_seconds_count{agent=acme,status=5xx}": 1,
        "flyteagents_vendor_request_seconds_count{agent=acme,status=none}": 1,
        "flyteagents_loop_lag_seconds_count{}": 1,
        "flyteagents_loop_blocked_seconds_total{agent=acme}": 1.5,
        "flyteagents_oldest_hiccup_seconds{agent=acme}": 30,
    }
    samples = scrape()
    assert {name: samples.get(name) for name in expected} == expected
    ages.clear()
    assert "flyteagents_oldest_hiccup_seconds{agent=acme}" not in scrape()


def test_the_series_of_an_agent_are_there_before_they_are_used(
    telemetry: Telemetry, scrape: Callable[[], dict[str, float]]
) -> None:
    telemetry.metrics.serve("acme", synchronous=False)
    telemetry.metrics.serve("quick", synchronous=True)
    samples = scrape()
    for name in (
        "flyte_connector_requests_success_total{operation=create,task_type=acme}",
        "flyte_connector_requests_success_total{operation=do,task_type=quick}",
        "flyte_connector_requests_failure_total{error_code=500,operation=get,task_type=acme}",
        "flyteagents_jobs_total{phase=SUCCEEDED,task_type=acme}",
        "flyteagents_hiccups_total{agent=acme,cause=Unavailable}",
        "flyteagents_abandoned_total{agent=acme}",
        "flyteagents_parked_total{agent=acme,phase=RETRYABLE_FAILED}",
        "flyteagents_loop_blocked_seconds_total{agent=}",
    ):
        assert samples[name] == 0, name


def test_of_a_maximum_the_highest_is_kept_and_not_the_sum(
    telemetry: Telemetry, scrape: Callable[[], dict[str, float]]
) -> None:
    for peak in (5, 9, 7):
        telemetry.metrics.job_statistics("acme", {"peak_memory_bytes": peak, "rows": 1})
    samples = {k: v for k, v in scrape().items() if k.startswith("flyteagents_job_statistics")}
    assert samples == {
        "flyteagents_job_statistics_peak{agent=acme,statistic=peak_memory_bytes}": 9,
        "flyteagents_job_statistics_total{agent=acme,statistic=rows}": 3,
    }


def test_job_statistics_take_numbers_with_sane_names_and_not_without_end(
    telemetry: Telemetry, scrape: Callable[[], dict[str, float]]
) -> None:
    metrics = telemetry.metrics
    for _ in range(2):
        metrics.job_statistics(
            "acme",
            {
                "rows": 3,
                "seconds": 1.5,
                "cached": True,
                "user": "ann",
                'x"} 1': 1,
                "nan": float("nan"),
                "inf": float("inf"),
                "less": -1,
                "more than 64 bits": 2**63,
                "over": 2**63,
            },
        )
    metrics.job_statistics("flood", {f"n{i}": 1 for i in range(1000)})
    samples = {k: v for k, v in scrape().items() if k.startswith("flyteagents_job_statistics")}
    assert {k: v for k, v in samples.items() if "acme" in k} == {
        "flyteagents_job_statistics_total{agent=acme,statistic=rows}": 6,
        "flyteagents_job_statistics_total{agent=acme,statistic=seconds}": 3,
    }
    assert len(samples) == 2 + 64


def test_a_taken_port_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot serve metrics on 127.0.0.1:{port}"):
            start_telemetry(metrics_host="127.0.0.1", metrics_port=port)


def test_the_port_is_free_again_after_shutdown() -> None:
    first = start_telemetry(metrics_host="127.0.0.1", metrics_port=0)
    first.shutdown()
    assert first.metrics_port is not None
    second = start_telemetry(metrics_host="127.0.0.1", metrics_port=first.metrics_port)
    assert second.metrics_port == first.metrics_port
    second.shutdown()


def test_metrics_go_to_a_collector_where_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", receiver.endpoint)
        telemetry = start_telemetry()
        telemetry.metrics.requests("acme", "get").answered(0.5, "OK")
        telemetry.shutdown()
        received = {metric.name: metric for metric in receiver.metrics}
    latency = received["flyte_connector_request_latency_seconds"]
    assert (latency.value, latency.count) == (0.5, 1)
    assert latency.attributes == {"task_type": "acme", "operation": "get"}
    assert received["flyte_connector_requests_success"].value == 1
    assert receiver.spans == []


def test_a_sum_of_any_size_goes_to_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        telemetry = start_telemetry()
        for _ in range(3):
            telemetry.metrics.job_statistics("acme", {"bytes": 2**63 - 1})
        telemetry.shutdown()
        named = {metric.name: metric.value for metric in receiver.metrics}
    assert named["flyteagents_job_statistics"] == pytest.approx(3 * 2.0**63)
