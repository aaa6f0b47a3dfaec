"""A vendor that takes 200 ms for each poll: what a service is for."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from tests.bench import processes
from tests.bench.processes import Client, Process
from tests.bench.rounds import Figures, interleave, medians, ratios, table, verdict

TASK_TYPE = "bench_slow"
DELAY, ROUNDS, SECONDS = 0.2, 3, 3.0
COUNTED = 60
JOBS = 1200  # more than polls in flight: polls of one job would share a request


def measure() -> dict[str, Any]:
    """Polls with 64 and 512 in flight, and what the vendor has to do for each of them."""
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        collector = stack.enter_context(processes.collector())
        vendors = [processes.Vendor(DELAY), processes.Vendor(DELAY)]
        for vendor in vendors:
            stack.enter_context(vendor)
        servers = [
            stack.enter_context(server)
            for server in (
                processes.ours(
                    stack,
                    collector,
                    # More than are in flight: by default polls over 128 are answered from memory,
                    # without a request, and that would flatter us.
                    {"FLYTEAGENTS_BENCH_URL": vendors[0].url, "FLYTEAGENTS_MAX_POLLS": "1024"},
                ),
                processes.flytekit({"BENCH_URL": vendors[1].url}),
            )
        ]
        client = stack.enter_context(Client())
        by_server = {server.name: vendor for server, vendor in zip(servers, vendors, strict=True)}
        for server in servers:
            client.order("fill", server, TASK_TYPE, jobs=JOBS)
        for in_flight in (64, 512):
            found[str(in_flight)] = compare(servers, by_server, client, TASK_TYPE, in_flight, 20)
    return found


def compare(
    servers: list[Process], vendors: dict[str, processes.Vendor], client: Client, task_type: str,
    in_flight: int, expected: float, title: str = "an agent with one request",
) -> dict[str, Any]:  # fmt: skip
    """Polls with so many in flight, each server with a vendor of its own."""

    def one(server: Process) -> Figures:
        figures: Figures = client.order(
            "poll", server, task_type, in_flight=in_flight, seconds=SECONDS
        )
        return figures

    measured = interleave(servers, ROUNDS, one)
    rows = {name: medians(rounds) for name, rounds in measured.items()}
    time.sleep(2.0)  # the polls that the last round cut off still have requests under way
    for server in servers:
        rows[server.name] |= _per_poll(server, vendors[server.name], client, task_type)
    columns = ("rate", "p50_ms", "p99_ms", "cpu_s_per_1000", "rss_mb", "requests_per_poll",
               "connections_per_poll")  # fmt: skip
    vendor = f"vendor takes {DELAY * 1000:.0f} ms, {in_flight} in flight"
    table(f"GetTask, {vendor}; {title}", rows, columns)
    rate = ratios(measured, "rate", servers[0].name, servers[1].name)
    return {
        "rounds": measured,
        "medians": rows,
        "ratios": [verdict(f"{title}: polls/s, {in_flight} in flight", rate, expected)],
    }


def _per_poll(server: Process, vendor: processes.Vendor, client: Client, task_type: str) -> Figures:
    """What a vendor has to do for a poll: counted over polls that all end."""
    before = vendor.counts()
    client.order("sweep", server, task_type, in_flight=COUNTED, jobs=COUNTED)
    after = vendor.counts()
    return {f"{name}_per_poll": (after[name] - before[name]) / COUNTED for name in after}
