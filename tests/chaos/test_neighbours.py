"""One bad agent slows nobody else: measured side by side with a server that has none."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

import pytest
from tests.chaos.attempts import attempt
from tests.chaos.conftest import MakeServer

from flyteagents import Phase
from flyteagents.testing import Attempt, Caller, JobService, SlowReply

# Counts calls that come at a rate, or compares their times.
pytestmark = pytest.mark.alone

PAIRS = 300
MOST_SECONDS = 20.0
BAD = ["job_tagged", "chaos_raising", "chaos_blocking"]
"""One whose vendor is slow, one with a bug, one that blocks the loop."""


@pytest.mark.parametrize("bad", BAD)
async def test_an_agent_goes_on_as_before_beside_a_bad_one(
    make_server: MakeServer, vendor: JobService, bad: str
) -> None:
    async with JobService() as slow_vendor:
        url = {"FLYTEAGENTS_JOBS_OTHER_URL": slow_vendor.url}
        noisy, quiet = await asyncio.gather(
            make_server("jobs,chaos,blocking", **url), make_server("jobs,chaos,blocking", **url)
        )
        async with noisy.caller() as beside, quiet.caller() as alone:
            jobs = [attempt(bad, f"bad-{n}", "forever") for n in range(20)]
            metas = [(await beside.create(job)).meta for job in jobs]
            slow_vendor.script("*", "*", SlowReply(30.0), repeat=True)
            noise = [
                asyncio.ensure_future(polled(beside, job, meta))
                for job, meta in zip(jobs, metas, strict=True)
            ]
            if bad == "chaos_blocking":
                # What it holds up until the kernel has seen what it does is the price of not
                # running every agent in a thread.
                await until(lambda: "giving it one of its own" in noisy.log)
            times = await interleaved(beside, alone, bad)
            for poller in noise:
                poller.cancel()
            ended = await asyncio.gather(*noise, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended
    disturbed, undisturbed = times
    print(f"beside {bad}: {shown(disturbed)}; without: {shown(undisturbed)}")
    assert statistics.median(disturbed) < 2 * statistics.median(undisturbed) + 0.01
    assert percentile(disturbed, 99) < 3 * percentile(undisturbed, 99) + 0.15


async def interleaved(beside: Caller, alone: Caller, name: str) -> tuple[list[float], list[float]]:
    """Seconds of polls and creates of a good agent, in turns on both servers."""
    work = attempt("job_keyed", f"good-{name}", "forever")
    metas = [(await calls.create(work)).meta for calls in (beside, alone)]
    times: tuple[list[float], list[float]] = ([], [])
    ends = time.monotonic() + MOST_SECONDS
    for number in range(PAIRS):
        if time.monotonic() > ends:
            break
        for calls, meta, taken in zip((beside, alone), metas, times, strict=True):
            new = attempt("job_keyed", f"good-{name}-{number}", "forever")
            rpc = await (calls.create(new) if number % 3 else calls.get(work, meta))
            assert rpc.ok, rpc
            taken.append(rpc.seconds)
    return times


async def polled(calls: Caller, work: Attempt, meta: bytes) -> None:
    while True:
        assert (await calls.get(work, meta)).phase in (Phase.INITIALIZING, Phase.RUNNING)
        await asyncio.sleep(0.2)


async def until(true: Callable[[], bool], seconds: float = 15.0) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it did not come"
        await asyncio.sleep(0.05)


def percentile(times: list[float], percent: int) -> float:
    return sorted(times)[min(len(times) * percent // 100, len(times) - 1)]


def shown(times: list[float]) -> str:
    p50, p99 = statistics.median(times) * 1000, percentile(times, 99) * 1000
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {max(times) * 1000:.1f} ms"
