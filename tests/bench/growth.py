"""How latency and memory grow with the jobs that are in flight, polled as FlytePropeller does."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from tests.bench import processes
from tests.bench.nothing import TASK_TYPE
from tests.bench.processes import Client, Process, Vendor
from tests.bench.rounds import Figures, interleave, medians, table, told
from tests.bench.slow import DELAY
from tests.bench.slow import TASK_TYPE as SLOW

JOBS = (10, 100, 1_000, 10_000)
EVERY = 30.0
"""Seconds from one poll of a job to its next (flyteplugins .../webapi/agent/config.go:18-31)."""
LEAST = 20.0
"""Polls a second at least: fewer jobs are asked more often, or there is nothing to measure."""
ROUNDS = 2
MOST = 1.2
"""Times the vendor's latency, for the slowest poll of a hundred."""


def measure() -> dict[str, Any]:
    """Ever more jobs: of an agent that does nothing, and of one whose vendor takes 200 ms. flytekit
    goes without the most jobs of the latter: its six threads end at 30 polls a second."""
    with ExitStack() as stack:
        collector = stack.enter_context(processes.collector())
        vendors = [stack.enter_context(Vendor(DELAY)) for _ in range(2)]
        mine = {"FLYTEAGENTS_BENCH_URL": vendors[0].url}
        ours = stack.enter_context(processes.ours(stack, collector, mine))
        theirs = stack.enter_context(processes.flytekit({"BENCH_URL": vendors[1].url}))
        client = stack.enter_context(Client())
        found = {}
        for task_type, name in ((TASK_TYPE, "nothing to do"), (SLOW, "vendor takes 200 ms")):
            for jobs in JOBS:
                both = task_type == TASK_TYPE or jobs < max(JOBS)
                rows = _polled([ours, theirs] if both else [ours], client, task_type, jobs)
                found[f"{name}, {jobs}"] = rows
                columns = ("rate", "p50_ms", "p99_ms", "cpu_s_per_1000", "rss_mb")
                title = f"{jobs:,} jobs, each polled every {EVERY:.0f} s, {name}"
                table(title, rows["medians"], columns)
        slowest = rows["medians"][ours.name]["p99_ms"] / (1000 * DELAY)
        told("p99 of a poll, to the vendor's 200 ms, 10,000 jobs", slowest, at_most=MOST)
    return found


def _polled(servers: list[Process], client: Client, task_type: str, jobs: int) -> dict[str, Any]:
    rate = max(jobs / EVERY, LEAST)
    # Of the most jobs each is to be polled, and with the round before that takes three.
    seconds = EVERY / (ROUNDS + 1) if jobs == max(JOBS) else 3.0
    for server in servers:
        client.order("fill", server, task_type, jobs=jobs)

    def one(server: Process) -> Figures:
        figures: Figures = client.order(
            "steady", server, task_type, jobs=jobs, rate=rate, seconds=seconds
        )
        return figures

    measured = interleave(servers, ROUNDS, one)
    return {
        "rounds": measured,
        "medians": {name: medians(rounds) for name, rounds in measured.items()},
    }
