"""The kernel's metrics. Label values are the caller's duty: names of registered agents only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from flyteagents._telemetry.batched_lines import Lines
from flyteagents._telemetry.spreads import Series, Spread, Spreads

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60)
_BYTES = (256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216)
_LAG = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)
_STATISTIC = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,63}")
_STATISTICS_LIMIT = 64
_PEAK = re.compile(r"(peak|max|maximum)_")
_ENDS = ("SUCCEEDED", "FAILED", "RETRYABLE_FAILED", "ABORTED")
_STILL_RUNS = ("not accepted", "still stopping", "not stopped", "failed", "forbidden", "drained")
# flytekit's `error_code` is an HTTP number.
_HTTP = {
    "CANCELLED": 499,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "UNAUTHENTICATED": 401,
}


Values = Mapping[tuple[str, ...], float]
"""The values of a metric by the values of its labels."""


class Sums:
    """A counter that is read when metrics are collected, since adding a number to an instrument
    takes twenty times as long. Each is counted by one thread only."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], float] = {}

    def add(self, *values: str, amount: float = 1) -> None:
        """Count for these values of the labels, in their order."""
        self._sums[values] = self._sums.get(values, 0) + amount

    def raise_to(self, value: float, *values: str) -> None:
        """Keep the highest instead of a sum."""
        self._sums[values] = max(self._sums.get(values, value), value)

    def read(self) -> Values:
        return self._sums.copy()  # from another thread, while it goes on counting


def _observed(
    labels: Sequence[str], read: Callable[[], Values]
) -> Sequence[Callable[[CallbackOptions], Iterable[Observation]]]:
    return [
        lambda _: [
            Observation(value, dict(zip(labels, values, strict=True)))
            for values, value in read().items()
        ]
    ]


@dataclass
class CallCounts:
    """The calls of one operation for one task type; kept by who counts them."""

    labels: tuple[str, str]
    latency: Series
    succeeded: Sums
    failed: Sums

    def answered(self, seconds: float, code: str) -> None:
        """A call has been answered with a gRPC status."""
        self.latency.record(seconds)
        if code == "OK":
            self.succeeded.add(*self.labels)
        else:
            self.failed.add(*self.labels, str(_HTTP.get(code, 500)))


class Metrics:
    """What is counted. The `flyte_connector_*` names and labels are those of flytekit's service
    (flytekit/extend/backend/connector_service.py), so dashboards in use go on working."""

    def __init__(self, meter: Meter, spreads: Spreads) -> None:
        self._meter = meter
        self._spreads = spreads
        self._names: dict[str, set[str]] = {}
        count, spread = self._count, self._spread
        flytekit = ("task_type", "operation")
        self._succeeded = count(
            "flyte_connector_requests_success", "Requests answered OK", *flytekit
        )
        self._failed = count(
            "flyte_connector_requests_failure",
            "Requests answered with an error",
            *flytekit,
            "error_code",
        )
        self._latency = spread(
            "flyte_connector_request_latency_seconds",
            "s",
            "Time to answer a request",
            _SECONDS,
            *flytekit,
        )
        self._inputs = spread(
            "flyte_connector_input_literal_bytes",
            "By",
            "Size of a task's inputs",
            _BYTES,
            "task_type",
        )
        self._vendor = spread(
            "flyteagents_vendor_request_seconds",
            "s",
            "Time of one vendor request",
            _SECONDS,
            "agent",
            "status",
        )
        self.lag = spread("flyteagents_loop_lag_seconds", "s", "Lateness of the event loop", _LAG)
        self.blocked = count(
            "flyteagents_loop_blocked_seconds", "Time in which code blocked the loop", "agent"
        )
        # Nobody's. With it there is always something to collect, and the histograms with it.
        self.blocked.add("", amount=0)
        self.jobs = count(
            "flyteagents_jobs", "Jobs that ended, or never began", "task_type", "phase"
        )
        self.hiccups = count(
            "flyteagents_hiccups", "Polls answered with the last known phase", "agent", "cause"
        )
        self.adopted = count(
            "flyteagents_adopted", "Jobs taken over from an earlier attempt", "agent"
        )
        self.parked = count(
            "flyteagents_parked", "Creates answered OK that report a failure", "agent", "phase"
        )
        self.abandoned = count(
            "flyteagents_abandoned", "Jobs that may run and nobody asks about", "agent"
        )
        self.cancels_unconfirmed = count(
            "flyteagents_cancels_unconfirmed", "Cancels whose job has not stopped", "agent", "why"
        )
        self.admission = count(
            "flyteagents_admission", "What admission did", "agent", "operation", "outcome"
        )
        self._meter.create_observable_counter(
            "flyteagents_log_lines_lost",
            _observed((), lambda: {(): Lines.lost}),
            "",
            "Log lines that could not be written",
        )
        self._statistics = count(
            "flyteagents_job_statistics", "Sums of vendors' numbers of jobs", "agent", "statistic"
        )
        self._peaks = Sums()
        self.watch(
            "flyteagents_job_statistics_peak",
            "",
            "The highest of vendors' numbers that are maxima",
            "agent",
            "statistic",
            read=self._peaks.read,
        )

    def serve(self, task_type: str, *, synchronous: bool) -> None:
        """An agent is served: its series are there from now on, since an alert on a counter's
        growth does not see the first count of a series that was not there before."""
        for operation in ("do",) if synchronous else ("create", "get", "delete"):
            self._succeeded.add(task_type, operation, amount=0)
            for code in ("400", "429", "500", "503"):
                self._failed.add(task_type, operation, code, amount=0)
        for phase in _ENDS:
            self.jobs.add(task_type, phase, amount=0)
        self.blocked.add(task_type, amount=0)
        if synchronous:
            return
        for cause in ("Throttled", "Unavailable", "Unauthenticated", "Forbidden", "bug"):
            self.hiccups.add(task_type, cause, amount=0)
        for phase in ("FAILED", "RETRYABLE_FAILED"):
            self.parked.add(task_type, phase, amount=0)
        for counted in (self.adopted, self.abandoned):
            counted.add(task_type, amount=0)
        for why in _STILL_RUNS:
            self.cancels_unconfirmed.add(task_type, why, amount=0)
        self.admission.add(task_type, "create", "refused", amount=0)
        self.admission.add(task_type, "get", "remembered", amount=0)

    def requests(self, task_type: str, operation: str) -> CallCounts:
        """Operations have flytekit's names: create, get, delete, do."""
        latency = self._latency.series(task_type, operation)
        return CallCounts((task_type, operation), latency, self._succeeded, self._failed)

    def inputs(self, task_type: str) -> Series:
        """The bytes of the inputs of a task type's creates, for who records them."""
        return self._inputs.series(task_type)

    def vendor_request(self, agent: str, status: int | None, seconds: float) -> None:
        """One request on the wire; `status` is None when there was no reply."""
        outcome = "none" if status is None else f"{status // 100}xx"
        self._vendor.record(seconds, agent, outcome)

    def job_statistics(
        self, agent: str, statistics: Mapping[str, bool | int | float | str]
    ) -> None:
        """Add a finished job's numbers; of those whose names say that they are maxima, the highest
        is kept. What is no number, or has a name that no author would give, is left out; so are
        names beyond a limit, since a vendor's reply may bring them."""
        names = self._names.setdefault(agent, set())
        for name, value in statistics.items():
            if isinstance(value, bool | str) or not _STATISTIC.fullmatch(name):
                continue
            # No sum survives NaN or infinity, and no reply with metrics an integer over 64 bits.
            if not 0 <= value < 2.0**63:
                continue
            if name in names or len(names) < _STATISTICS_LIMIT:
                names.add(name)
                if _PEAK.match(name):
                    self._peaks.raise_to(value, agent, name)
                else:
                    self._statistics.add(agent, name, amount=float(value))

    def watch(
        self, name: str, unit: str, text: str, *labels: str, read: Callable[[], Values]
    ) -> None:
        """A gauge. `read` is called from another thread."""
        self._meter.create_observable_gauge(name, _observed(labels, read), unit, text)

    def _count(self, name: str, text: str, *labels: str) -> Sums:
        sums = Sums()
        self._meter.create_observable_counter(name, _observed(labels, sums.read), "", text)
        return sums

    def _spread(
        self, name: str, unit: str, text: str, bounds: Sequence[float], *labels: str
    ) -> Spread:
        return self._spreads.make(self._meter, name, unit, text, bounds, labels)
