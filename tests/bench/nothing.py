"""What the service itself costs: agents that do nothing, and a bare handler beside them."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median
from typing import Any

from tests.bench import processes
from tests.bench.processes import Client, Process
from tests.bench.rounds import Figures, interleave, medians, ratios, table, verdict

TASK_TYPE = "bench_nothing"
ROUNDS, SECONDS, IN_FLIGHT, JOBS = 9, 1.0, 32, 1000
STARTS = 3


def measure() -> dict[str, Any]:
    """CreateTask and GetTask as fast as they go, memory, and the time to start."""
    found: dict[str, Any] = {"start": _starts()}
    with ExitStack() as stack:
        collector = stack.enter_context(processes.collector())
        off = {"OTEL_SDK_DISABLED": "true"}
        servers = [
            stack.enter_context(server)
            for server in (
                processes.ours(stack, collector),
                processes.ours(stack, collector, name="with uvloop", uvloop=True),
                processes.ours(stack, collector, off, name="untraced"),
                processes.flytekit(),
                processes.bare(),
            )
        ]
        client = stack.enter_context(Client())
        at_start = {server.name: server.resident for server in servers}
        for server in servers:
            client.order("fill", server, TASK_TYPE, jobs=JOBS)
        for operation, method in (("poll", "GetTask"), ("create", "CreateTask")):

            def one(server: Process, do: str = operation) -> Figures:
                had = processes.spans(collector)
                figures: Figures = client.order(
                    do, server, TASK_TYPE, in_flight=IN_FLIGHT, seconds=SECONDS
                )
                if server.name == "flyteagents":
                    figures["spans_per_call"] = (processes.spans(collector) - had) / figures[
                        "calls"
                    ]
                return figures

            measured = interleave(servers, ROUNDS, one)
            rows = {name: medians(rounds) for name, rounds in measured.items()}
            for server in servers:
                rows[server.name]["start_mb"] = at_start[server.name]
                if server.name in found["start"]:
                    rows[server.name]["start_s"] = median(found["start"][server.name])
            columns = (
                "rate",
                "p50_ms",
                "p99_ms",
                "cpu_s_per_1000",
                "rss_mb",
                "start_mb",
                "start_s",
                "spans_per_call",
            )
            table(f"{method}, {IN_FLIGHT} in flight", rows, columns)
            found[method] = {
                "rounds": measured,
                "medians": rows,
                "ratios": _compare(method, measured),
            }
    return found


EXPECTED = {
    "GetTask": {"flyteagents": 0.9, "with uvloop": 0.95, "untraced": 1.0},
    "CreateTask": {"flyteagents": 0.7},
}
"""Calls in a CPU second, to flytekit's."""


def _compare(method: str, measured: dict[str, list[Figures]]) -> list[dict[str, Any]]:
    rate = ratios(measured, "rate", "flyteagents", "flytekit")
    found = [verdict(f"{method} rate, to flytekit's", rate)]
    for name in ("flyteagents", "with uvloop", "untraced", "bare"):
        cpu = ratios(measured, "cpu_s_per_1000", "flytekit", name)
        expected = EXPECTED[method].get(name, 0.0)
        found.append(verdict(f"{method}s per CPU second to flytekit's, {name}", cpu, expected))
    return found


def _starts() -> dict[str, list[float]]:
    """Seconds to start, in turns."""
    seconds: dict[str, list[float]] = {}
    with ExitStack() as stack:
        collector = stack.enter_context(processes.collector())
        for _ in range(STARTS):
            for server in processes.ours(stack, collector), processes.flytekit(), processes.bare():
                with server:
                    seconds.setdefault(server.name, []).append(server.started)
    return seconds
