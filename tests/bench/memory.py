"""What a pod with all vendors' plugins needs: time to start, memory, and what jobs add to it."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median
from typing import Any

from tests.bench import processes
from tests.bench.nothing import TASK_TYPE
from tests.bench.processes import Client
from tests.bench.rounds import table, told

PLUGINS = "bench,bigquery,snowflake,databricks"
STARTS, JOBS = 5, 10_000


def measure() -> dict[str, Any]:
    """Three vendors' plugins in one server, and then 10,000 jobs, each polled once."""
    with ExitStack() as stack:
        collector = stack.enter_context(processes.collector())
        started, worked, at_start = [], [], []
        for _ in range(STARTS):
            with processes.ours(stack, collector, plugin=PLUGINS) as server:
                started.append(server.started)
                worked.append(server.cpu)
                at_start.append(server.resident)

        server = stack.enter_context(processes.ours(stack, collector, plugin=PLUGINS))
        client = stack.enter_context(Client())
        # The first calls load what is needed for calls, and metrics are first sent after a while.
        client.order("fill", server, TASK_TYPE, jobs=100)
        client.order("sweep", server, TASK_TYPE, in_flight=32, jobs=100)
        before = server.resident
        client.order("fill", server, TASK_TYPE, jobs=JOBS)
        client.order("sweep", server, TASK_TYPE, in_flight=32, jobs=JOBS)
        grown = server.resident - before

    figures = {
        "start_s": median(started),
        "start_cpu_s": median(worked),  # what is left of it when the machine does nothing else
        "start_mb": median(at_start),
        "warm_mb": before,
        "more_mb": grown,
    }
    table("Three vendors' plugins in one server", {"flyteagents": figures}, list(figures))
    told("seconds to start", figures["start_s"], at_most=1.0)
    told("MB after the first calls", before, at_most=90.0)
    told(f"MB more with {JOBS:,} jobs", grown, at_most=25.0)
    return {"started": started, "at_start": at_start, "medians": figures}
