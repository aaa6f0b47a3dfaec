"""Calls for one job that overlap, as a Propeller whose server is slow sends them."""

from __future__ import annotations

import asyncio
import time

from tests.chaos.attempts import attempt
from tests.chaos.conftest import MakeServer

from flyteagents import Phase
from flyteagents.testing import JobService, SlowReply


async def test_overlapping_polls_of_one_job_are_all_answered_and_share_their_requests(
    make_server: MakeServer, vendor: JobService
) -> None:
    server = await make_server()
    work = attempt("job_keyed", "polled", "forever")
    async with server.caller() as calls:
        meta = (await calls.create(work)).meta
        vendor.script("GET", "*", SlowReply(0.01), repeat=True)
        ends, polls = time.monotonic() + 2, 0

        async def poll() -> None:
            nonlocal polls
            while time.monotonic() < ends:
                assert (await calls.get(work, meta)).phase is Phase.RUNNING
                polls += 1

        await asyncio.gather(*(poll() for _ in range(16)))
    asked = vendor.count("GET", "*")
    print(f"{polls} polls, {asked} vendor requests")
    assert polls > 200
    assert asked < polls / 2


async def test_overlapping_deletes_of_one_job_all_succeed_and_cancel_it_once(
    make_server: MakeServer, vendor: JobService
) -> None:
    server = await make_server()
    vendor.cancel_seconds = 0.05
    async with server.caller() as calls:
        for number in range(20):
            work = attempt("job_keyed", f"deleted-{number}", f'forever; return "{number}"')
            meta = (await calls.create(work)).meta
            deleted = await asyncio.gather(*(calls.delete(work, meta) for _ in range(8)))
            assert all(rpc.ok for rpc in deleted), deleted
    assert [job.state for job in vendor.jobs.values()] == ["CANCELED"] * 20
    assert [job.cancels for job in vendor.jobs.values()] == [1] * 20
