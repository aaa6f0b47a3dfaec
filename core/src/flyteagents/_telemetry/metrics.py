"""The kernel's metrics. Label values are the caller's duty: names of registered agents only."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
_BYTES = (256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216)
_LAG = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)
_STATISTIC = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")
_STATISTICS_LIMIT = 64
# flytekit's `error_code` is an HTTP number.
_HTTP = {
    "CANCELLED": 499, "INVALID_ARGUMENT": 400, "DEADLINE_EXCEEDED": 504, "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409, "PERMISSION_DENIED": 403, "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400, "ABORTED": 409, "OUT_OF_RANGE": 400, "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503, "UNAUTHENTICATED": 401,
}  # fmt: skip


class Sums:
    """A counter, or a gauge that goes up and down: read when metrics are collected, since adding
    a number to an instrument takes twenty times as long. For use on the event loop."""

    def __init__(self, *labels: str) -> None:
        self._labels = labels
        self._sums: dict[tuple[str, ...], float] = {}

    def add(self, amount: float, *values: str) -> None:
        self._sums[values] = self._sums.get(values, 0) + amount

    def observe(self, _: CallbackOptions) -> Iterable[Observation]:
        # A copy: the loop goes on counting.
        return [
            Observation(amount, dict(zip(self._labels, values, strict=True)))
            for values, amount in self._sums.copy().items()
        ]


class Metrics:
    """What is counted. The `flyte_connector_*` names and labels are those of flytekit's service
    (flytekit/extend/backend/connector_service.py), so dashboards in use go on working."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._succeeded = self._count(
            "flyte_connector_requests_success", "Requests answered OK", "task_type", "operation"
        )
        self._failed = self._count(
            "flyte_connector_requests_failure",
            "Requests answered with an error",
            *("task_type", "operation", "error_code"),
        )
        self._latency = self._spread(
            "flyte_connector_request_latency_seconds", "s", "Time to answer a request", _SECONDS
        )
        self._inputs = self._spread(
            "flyte_connector_input_literal_bytes", "By", "Size of a task's inputs", _BYTES
        )
        self._vendor = self._spread(
            "flyteagents_vendor_request_seconds", "s", "Time of one vendor request", _SECONDS
        )
        self._lag = self._spread(
            "flyteagents_loop_lag_seconds", "s", "Lateness of the event loop", _LAG
        )
        self._blocked = self._count(
            "flyteagents_loop_blocked_seconds", "Time in which code blocked the loop", "agent"
        )
        self._hiccups = self._count(
            "flyteagents_hiccups", "Polls answered with the last known phase", "agent", "cause"
        )
        self._adopted = self._count(
            "flyteagents_adopted", "Jobs taken over from an earlier attempt", "agent"
        )
        self._parked = self._count(
            "flyteagents_parked", "Creates answered OK that report a failure", "agent", "phase"
        )
        self._abandoned = self._count(
            "flyteagents_abandoned", "Jobs that may run and nobody asks about", "agent"
        )
        self._unconfirmed = self._count(
            "flyteagents_cancels_unconfirmed", "Cancels whose job has not stopped", "agent", "why"
        )
        self._admission = self._count(
            "flyteagents_admission", "What admission did", "agent", "operation", "outcome"
        )
        self._statistics = self._count(
            "flyteagents_job_statistics", "Sums of vendors' numbers of jobs", "agent", "statistic"
        )
        self._running = Sums("agent", "operation")
        meter.create_observable_up_down_counter(
            "flyteagents_in_flight", [self._running.observe], "", "Calls that agents work on"
        )
        self._names: dict[str, set[str]] = {}

    def request(self, task_type: str, operation: str, seconds: float, code: str | None) -> None:
        """A call has been answered; `code` is None or "OK", or the gRPC status. Operations have
        flytekit's names: create, get, delete, do."""
        self._latency.record(seconds, {"task_type": task_type, "operation": operation})
        if code is None or code == "OK":
            self._succeeded.add(1, task_type, operation)
        else:
            self._failed.add(1, task_type, operation, str(_HTTP.get(code, 500)))

    def input_bytes(self, task_type: str, size: int) -> None:
        self._inputs.record(size, {"task_type": task_type})

    def vendor_request(self, agent: str, status: int | None, seconds: float) -> None:
        """One request on the wire; `status` is None when there was no reply."""
        outcome = "none" if status is None else f"{status // 100}xx"
        self._vendor.record(seconds, {"agent": agent, "status": outcome})

    def loop_lag(self, seconds: float) -> None:
        self._lag.record(seconds)

    def loop_blocked(self, agent: str | None, seconds: float) -> None:
        self._blocked.add(seconds, agent or "")

    def hiccup(self, agent: str, cause: str) -> None:
        self._hiccups.add(1, agent, cause)

    def adopted(self, agent: str) -> None:
        self._adopted.add(1, agent)

    def parked(self, agent: str, phase: str) -> None:
        self._parked.add(1, agent, phase)

    def abandoned(self, agent: str) -> None:
        self._abandoned.add(1, agent)

    def cancel_unconfirmed(self, agent: str, why: str) -> None:
        self._unconfirmed.add(1, agent, why)

    def admission(self, agent: str, operation: str, outcome: str) -> None:
        self._admission.add(1, agent, operation, outcome)

    def in_flight(self, agent: str, operation: str, change: Literal[1, -1]) -> None:
        self._running.add(change, agent, operation)

    def job_statistics(self, agent: str, statistics: Mapping[str, object]) -> None:
        """Add a finished job's numbers. What is no number, or has a name that no author would
        give, is left out; so are names beyond a limit, since a vendor's reply may bring them."""
        names = self._names.setdefault(agent, set())
        for name, value in statistics.items():
            # No sum survives NaN or infinity.
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if not math.isfinite(value) or value < 0:
                continue
            if name not in names:
                if len(names) >= _STATISTICS_LIMIT or not _STATISTIC.fullmatch(name):
                    continue
                names.add(name)
            self._statistics.add(value, agent, name)

    def watch_hiccups(self, ages: Callable[[], Mapping[str, float]]) -> None:
        """`ages` gives, for each agent, the seconds since the oldest series of hiccups began.
        It is called from another thread."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(age, {"agent": agent}) for agent, age in ages().items()]

        name = "flyteagents_oldest_hiccup_seconds"
        text = "Age of the oldest unbroken series of hiccups"
        self._meter.create_observable_gauge(name, [observe], "s", text)

    def _count(self, name: str, text: str, *labels: str) -> Sums:
        sums = Sums(*labels)
        self._meter.create_observable_counter(name, [sums.observe], "", text)
        return sums

    def _spread(self, name: str, unit: str, text: str, bounds: tuple[float, ...]) -> Histogram:
        return self._meter.create_histogram(
            name, unit, text, explicit_bucket_boundaries_advisory=bounds
        )
