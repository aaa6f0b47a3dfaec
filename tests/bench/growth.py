"""How latency and memory grow with the jobs that are in flight."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from tests.bench import processes
from tests.bench.nothing import TASK_TYPE
from tests.bench.processes import Client, Process
from tests.bench.rounds import Figures, interleave, medians, table

JOBS = (10, 100, 1_000, 10_000)
RATE, ROUNDS, SECONDS = 200.0, 2, 2.0


def measure() -> dict[str, Any]:
    """Polls at a fixed rate, over ever more jobs."""
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        collector = stack.enter_context(processes.collector())
        servers = [
            stack.enter_context(server)
            for server in (processes.ours(stack, collector), processes.flytekit())
        ]
        client = stack.enter_context(Client())
        for jobs in JOBS:
            for server in servers:
                client.order("fill", server, TASK_TYPE, jobs=jobs)
                # All of them once, or most would never be seen.
                client.order("sweep", server, TASK_TYPE, in_flight=32, jobs=jobs)

            def one(server: Process, jobs: int = jobs) -> Figures:
                figures: Figures = client.order(
                    "steady", server, TASK_TYPE, jobs=jobs, rate=RATE, seconds=SECONDS
                )
                return figures

            measured = interleave(servers, ROUNDS, one)
            rows = {name: medians(rounds) for name, rounds in measured.items()}
            columns = ("rate", "p50_ms", "p99_ms", "cpu_s_per_1000", "rss_mb")
            table(f"GetTask at {RATE:.0f}/s, {jobs:,} jobs", rows, columns)
            found[str(jobs)] = {"rounds": measured, "medians": rows}
    return found
