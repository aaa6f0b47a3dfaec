"""What the vendors' plugins add to a poll: each beside the agent that makes one request."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median
from typing import Any

from tests.bench import processes
from tests.bench.beside import Pair, ours
from tests.bench.bigquery import PAIR as BIGQUERY
from tests.bench.databricks import PAIR as DATABRICKS
from tests.bench.processes import Client, Process, Vendor
from tests.bench.rounds import Figures, interleave, medians, ratios, table, told
from tests.bench.slow import DELAY
from tests.bench.snowflake import PAIR as SNOWFLAKE

BARE = Pair(
    vendor="one request",
    plugin="bench",
    task_type="bench_slow",
    task={"custom": {"script": "sleep 1"}},
    ours=lambda stub: {"FLYTEAGENTS_BENCH_URL": stub.url},
    theirs=lambda stub: {},
)
ROUNDS, SECONDS, IN_FLIGHT, JOBS = 5, 3.0, 64, 600
MOST = 1.3
"""Times the CPU of the bare agent's poll."""


def measure() -> dict[str, Any]:
    """64 polls in flight of each plugin in a server of its own, without TLS."""
    with ExitStack() as stack:
        collector = stack.enter_context(processes.collector())
        client = stack.enter_context(Client())
        pairs = {pair.vendor: pair for pair in (BARE, BIGQUERY, SNOWFLAKE, DATABRICKS)}
        servers = []
        for name, pair in pairs.items():
            stub = stack.enter_context(Vendor(0.0, pair.plugin))
            servers.append(ours(stack, collector, pair, stub, name))
            client.order("fill", servers[-1], pair.task_type, jobs=JOBS, task=pair.task)
            stub.delays(DELAY, DELAY)

        def one(server: Process) -> Figures:
            figures: Figures = client.order(
                "poll",
                server,
                pairs[server.name].task_type,
                in_flight=IN_FLIGHT,
                seconds=SECONDS,
            )
            return figures

        measured = interleave(servers, ROUNDS, one)
        rows = {name: medians(rounds) for name, rounds in measured.items()}
        columns = ("rate", "p50_ms", "p99_ms", "cpu_s_per_1000", "rss_mb")
        table(f"GetTask of each plugin, vendor takes 200 ms, {IN_FLIGHT} in flight", rows, columns)
        for name in list(pairs)[1:]:
            cost = median(ratios(measured, "cpu_s_per_1000", name, BARE.vendor))
            told(f"CPU of a poll of {name}'s, to that of one request", cost, at_most=MOST)
        return {"rounds": measured, "medians": rows}
