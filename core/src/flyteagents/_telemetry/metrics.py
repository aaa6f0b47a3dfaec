"""The kernel's metrics. Label values are the caller's duty: names of registered agents only."""

from __future__ import annotations

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


class Metrics:
    """What is counted. The `flyte_connector_*` names and labels are those of flytekit's service
    (flytekit/extend/backend/connector_service.py), so dashboards in use go on working."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        count, spread = meter.create_counter, self._histogram
        self._succeeded = count("flyte_connector_requests_success", "", "Requests answered OK")
        self._failed = count("flyte_connector_requests_failure", "", "Requests answered not OK")
        self._latency = spread(
            "flyte_connector_request_latency_seconds", "s", "Time to answer a request", _SECONDS
        )
        self._inputs = spread(
            "flyte_connector_input_literal_bytes", "By", "Size of a task's inputs", _BYTES
        )
        self._vendor = spread(
            "flyteagents_vendor_request_seconds", "s", "Time of one vendor request", _SECONDS
        )
        self._lag = spread("flyteagents_loop_lag_seconds", "s", "Lateness of the event loop", _LAG)
        self._blocked = count(
            "flyteagents_loop_blocked_seconds", "s", "Time in which code blocked the event loop"
        )
        self._hiccups = count(
            "flyteagents_hiccups", "", "Polls answered with the last known phase, by cause"
        )
        self._adopted = count("flyteagents_adopted", "", "Jobs taken over from an earlier attempt")
        self._parked = count("flyteagents_parked", "", "Creates answered OK that report a failure")
        self._abandoned = count("flyteagents_abandoned", "", "Jobs that nobody may ask about")
        self._unconfirmed = count(
            "flyteagents_cancels_unconfirmed", "", "Cancels answered OK before the job stopped"
        )
        self._admission = count("flyteagents_admission", "", "Calls by what admission did")
        self._statistics = count(
            "flyteagents_job_statistics", "", "Sums of the numbers that vendors give for jobs"
        )
        self._running = meter.create_up_down_counter(
            "flyteagents_in_flight", "", "Calls that agents work on"
        )
        self._names: dict[str, set[str]] = {}

    def request(self, task_type: str, operation: str, seconds: float, code: str | None) -> None:
        """A call has been answered; `code` is None or "OK", or the gRPC status. Operations have
        flytekit's names: create, get, delete, do."""
        labels = {"task_type": task_type, "operation": operation}
        self._latency.record(seconds, labels)
        if code is None or code == "OK":
            self._succeeded.add(1, labels)
        else:
            self._failed.add(1, {**labels, "error_code": str(_HTTP.get(code, 500))})

    def input_bytes(self, task_type: str, size: int) -> None:
        self._inputs.record(size, {"task_type": task_type})

    def vendor_request(self, agent: str, status: int | None, seconds: float) -> None:
        """One request on the wire; `status` is None when there was no reply."""
        outcome = "none" if status is None else f"{status // 100}xx"
        self._vendor.record(seconds, {"agent": agent, "status": outcome})

    def loop_lag(self, seconds: float) -> None:
        self._lag.record(seconds)

    def loop_blocked(self, agent: str | None, seconds: float) -> None:
        self._blocked.add(seconds, {"agent": agent or ""})

    def hiccup(self, agent: str, cause: str) -> None:
        self._hiccups.add(1, {"agent": agent, "cause": cause})

    def adopted(self, agent: str) -> None:
        self._adopted.add(1, {"agent": agent})

    def parked(self, agent: str, phase: str) -> None:
        self._parked.add(1, {"agent": agent, "phase": phase})

    def abandoned(self, agent: str) -> None:
        self._abandoned.add(1, {"agent": agent})

    def cancel_unconfirmed(self, agent: str, why: str) -> None:
        self._unconfirmed.add(1, {"agent": agent, "why": why})

    def admission(self, agent: str, operation: str, outcome: str) -> None:
        labels = {"agent": agent, "operation": operation, "outcome": outcome}
        self._admission.add(1, labels)

    def in_flight(self, agent: str, operation: str, change: Literal[1, -1]) -> None:
        self._running.add(change, {"agent": agent, "operation": operation})

    def job_statistics(self, agent: str, statistics: Mapping[str, object]) -> None:
        """Add a finished job's numbers. What is no number, or has a name that no author would
        give, is left out; so are names beyond a limit, since a vendor's reply may bring them."""
        names = self._names.setdefault(agent, set())
        for name, value in statistics.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                continue
            if name not in names:
                if len(names) >= _STATISTICS_LIMIT or not _STATISTIC.fullmatch(name):
                    continue
                names.add(name)
            self._statistics.add(value, {"agent": agent, "statistic": name})

    def watch_hiccups(self, ages: Callable[[], Mapping[str, float]]) -> None:
        """`ages` gives, for each agent, the seconds since the oldest series of hiccups began.
        It is called from another thread."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(age, {"agent": agent}) for agent, age in ages().items()]

        self._meter.create_observable_gauge(
            "flyteagents_oldest_hiccup_seconds",
            [observe],
            "s",
            "Age of the oldest unbroken series of hiccups",
        )

    def _histogram(self, name: str, unit: str, text: str, bounds: tuple[float, ...]) -> Histogram:
        return self._meter.create_histogram(
            name, unit, text, explicit_bucket_boundaries_advisory=bounds
        )
