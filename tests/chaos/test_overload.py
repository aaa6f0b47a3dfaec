"""Five times as many calls as an agent is allowed to work on."""

from __future__ import annotations

import asyncio
import statistics
import time

import pytest
from grpc_health.v1 import health_pb2
from tests.chaos.attempts import attempt
from tests.chaos.conftest import MakeServer

from flyteagents._kernel import envelope
from flyteagents._status import Phase
from flyteagents.testing import Attempt, JobService, SlowReply

# Counts how many calls it has admitted, and compares their times.
pytestmark = pytest.mark.alone

POLLS, CREATES = 16, 8
TIMES = 5
SECONDS = 6.0
VENDOR = 0.5
"""Seconds that the vendor takes for each answer."""
MOST_GROWTH = 48 << 20


async def test_overload_fails_no_poll_and_no_delete_and_parks_the_creates_that_do_not_fit(
    make_server: MakeServer, vendor: JobService
) -> None:
    server = await make_server(
        FLYTEAGENTS_MAX_POLLS=str(POLLS), FLYTEAGENTS_MAX_CREATES=str(CREATES)
    )
    async with server.caller() as calls:
        jobs = [attempt("job_keyed", f"job-{n}", "forever") for n in range(POLLS * TIMES)]
        metas = [(await calls.create(job)).meta for job in jobs]
        doomed = [attempt("job_keyed", f"doomed-{n}", "forever") for n in range(40)]
        ends = [(await calls.create(job)).meta for job in doomed]
        before = server.resident
        vendor.script("*", "*", SlowReply(VENDOR), repeat=True)
        vendor.max_in_flight = 0
        stop = time.monotonic() + SECONDS
        parked: list[str] = []
        admitted: list[float] = []
        healths: set[int] = set()

        async def poll(job: Attempt, meta: bytes) -> None:
            while time.monotonic() < stop:
                answer = await calls.get(job, meta)
                assert answer.phase in (Phase.RUNNING, Phase.INITIALIZING)
                await asyncio.sleep(VENDOR / 2)

        async def create(lane: int) -> None:
            number = 0
            while time.monotonic() < stop:
                work, number = attempt("job_keyed", f"new-{lane}-{number}", "forever"), number + 1
                created = await calls.create(work, deadline=2.0)
                there = envelope.load(created.meta)
                assert there is not None, created
                if there.parked is None:
                    admitted.append(created.seconds)
                else:
                    assert there.parked.phase is Phase.RETRYABLE_FAILED
                    parked.append(there.parked.message)

        async def look() -> None:
            while time.monotonic() < stop:
                healths.add(await server.health(timeout=5.0))
                await asyncio.sleep(0.2)

        async def delete(job: Attempt, meta: bytes, after: float) -> None:
            await asyncio.sleep(after)
            assert (await calls.delete(job, meta)).ok

        await asyncio.gather(
            look(),
            *(poll(job, meta) for job, meta in zip(jobs, metas, strict=True)),
            *(create(lane) for lane in range(CREATES * TIMES)),
            *(
                delete(job, meta, number / 10)
                for number, (job, meta) in enumerate(zip(doomed, ends, strict=True))
            ),
        )
        grown = server.resident - before
        print(
            f"{len(admitted)} creates admitted, median {statistics.median(admitted):.2f} s; "
            f"{len(parked)} parked; {vendor.max_in_flight} vendor requests at once; "
            f"memory grew by {grown >> 20} MiB"
        )
        assert healths == {health_pb2.HealthCheckResponse.SERVING}
        # Who came in after waiting for a place may find its time too short for the vendor.
        assert {text.partition(": ")[2] for text in parked} <= {
            f"{CREATES} creates are under way; try later",
            "the vendor did not answer in time",
        }
        assert parked
        assert (await calls.get(jobs[0], metas[0])).phase is not Phase.RETRYABLE_FAILED
    # Places are not wasted on those that have waited for too long already.
    assert len(admitted) > 0.6 * CREATES * SECONDS / VENDOR
    assert statistics.median(admitted) < 2.0 / 2 + VENDOR + 0.2
    deletes = len(doomed)
    assert vendor.max_in_flight <= POLLS + CREATES + deletes
    assert all(vendor.job(there).cancels for there in ids(ends))
    assert grown < MOST_GROWTH


def ids(metas: list[bytes]) -> list[str]:
    found = [envelope.load(meta) for meta in metas]
    return [there.job["id"] for there in found if there is not None and there.job is not None]
