"""How many jobs a pod carries: `python -m tests.deploy.capacity`, in about two minutes.

A server with its defaults and tracing on, a vendor that takes its time, and polls at the rates that
jobs and Flyte's `resyncInterval` come to. docs/deploy.md has a run, and what follows from it.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass

from tests.bench import processes
from tests.bench.processes import Client, Process
from tests.bench.slow import TASK_TYPE

LATENCIES = (0.05, 0.2, 1.0)
RATES = (10.0, 30.0, 60.0)
INTERVALS = (30, 10, 5)
JOBS, SECONDS = 1_800, 10.0
FULL = 0.7
"""Of a core: the rest is for starting jobs, and for replicas that are away."""


@dataclass(frozen=True)
class Measured:
    """latency: the vendor's, in seconds. cores: processor time per second. late: milliseconds
    within which 99 of 100 polls were answered."""

    latency: float
    rate: float
    cores: float
    middle: float
    late: float
    megabytes: float

    @property
    def polls(self) -> float:
        """Polls a second of a pod with one core."""
        return FULL * self.rate / self.cores


def measure(latency: float) -> list[Measured]:
    """Each rate, with a server and a vendor of their own."""
    with ExitStack() as stack:
        collector = stack.enter_context(processes.collector())
        vendor = processes.Vendor(latency)
        stack.enter_context(vendor)
        server = stack.enter_context(
            processes.ours(stack, collector, {"FLYTEAGENTS_BENCH_URL": vendor.url})
        )
        client = stack.enter_context(Client())
        client.order("fill", server, TASK_TYPE, jobs=JOBS)
        return [steady(client, server, latency, rate) for rate in RATES]


def steady(client: Client, server: Process, latency: float, rate: float) -> Measured:
    """Polls at a rate, for a while."""
    used, begun = server.cpu, time.perf_counter()
    figures = client.order("steady", server, TASK_TYPE, jobs=JOBS, rate=rate, seconds=SECONDS)
    cores = (server.cpu - used) / (time.perf_counter() - begun)
    return Measured(latency, rate, cores, figures["p50_ms"], figures["p99_ms"], server.resident)


def main() -> None:
    print("| vendor takes | polls/s | cores | p50 ms | p99 ms | MB | jobs a core at", end="")
    print(" | ".join(f" {interval} s" for interval in INTERVALS), "|")
    print("|---" * (6 + len(INTERVALS)), "|", sep="")
    for latency in LATENCIES:
        for found in measure(latency):
            jobs = " | ".join(f"{found.polls * interval:,.0f}" for interval in INTERVALS)
            print(
                f"| {latency * 1000:.0f} ms | {found.rate:.0f} | {found.cores:.2f} "
                f"| {found.middle:.0f} | {found.late:.0f} | {found.megabytes:.0f} | {jobs} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
