"""A vendor that takes 200 ms for each poll: what a service is for."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from tests.bench import processes
from tests.bench.processes import Client, Process
from tests.bench.rounds import Figures, interleave, medians, ratios, table, told, verdict

TASK_TYPE = "bench_slow"
DELAY, ROUNDS, SECONDS = 0.2, 3, 3.0
COUNTED = 20
JOBS = 1200  # more than polls in flight: polls of one job would share a request


def measure() -> dict[str, Any]:
    """Polls with 64 and 512 in flight, and what the vendor has to do for each of them."""
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        collector = stack.enter_context(processes.collector())
        vendors = [processes.Vendor(DELAY) for _ in range(3)]
        for vendor in vendors:
            stack.enter_context(vendor)
        # More than are in flight: by default polls over 128 are answered from memory, without a
        # request, and that would flatter us.
        mine = [
            {"FLYTEAGENTS_BENCH_URL": vendor.url, "FLYTEAGENTS_MAX_POLLS": "1024"}
            for vendor in vendors
        ]
        servers = [
            stack.enter_context(server)
            for server in (
                processes.ours(stack, collector, mine[0]),
                processes.ours(stack, collector, mine[1], name="with uvloop", uvloop=True),
                processes.flytekit({"BENCH_URL": vendors[2].url}),
            )
        ]
        client = stack.enter_context(Client())
        by_server = {server.name: vendor for server, vendor in zip(servers, vendors, strict=True)}
        for server in servers:
            client.order("fill", server, TASK_TYPE, jobs=JOBS)
        for in_flight in (64, 512):
            compared = compare(servers, by_server, client, TASK_TYPE, in_flight)
            found[str(in_flight)] = compared
            rows = compared["medians"]["flyteagents"]
            if in_flight == 64:
                share = rows["rate"] * DELAY / in_flight
                told(f"share of what {in_flight} in flight can have", share, at_least=0.9)
            else:
                told("polls/s, 512 in flight", rows["rate"], at_least=1000)
                told("CPU s per 1,000 polls", rows["cpu_s_per_1000"], at_most=1.0)
    return found


def compare(
    servers: list[Process],
    vendors: dict[str, processes.Vendor],
    client: Client,
    task_type: str,
    in_flight: int,
    title: str = "an agent with one request",
) -> dict[str, Any]:
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
    columns = (
        "rate",
        "p50_ms",
        "p99_ms",
        "cpu_s_per_1000",
        "rss_mb",
        "requests_per_poll",
        "logins_per_poll",
        "connections_per_poll",
    )
    vendor = f"vendor takes {DELAY * 1000:.0f} ms, {in_flight} in flight"
    table(f"GetTask, {vendor}; {title}", rows, columns)
    rate = ratios(measured, "rate", servers[0].name, servers[-1].name)
    return {
        "rounds": measured,
        "medians": rows,
        "ratios": [verdict(f"{title}: polls/s, {in_flight} in flight", rate)],
    }


def _per_poll(server: Process, vendor: processes.Vendor, client: Client, task_type: str) -> Figures:
    """What a vendor has to do for a poll: counted over polls that all end."""
    before = vendor.counts()
    client.order("sweep", server, task_type, in_flight=COUNTED, jobs=COUNTED)
    after = vendor.counts()
    return {f"{name}_per_poll": (after[name] - before[name]) / COUNTED for name in after}
