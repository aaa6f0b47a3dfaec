"""Attempts that overtake each other, on one replica and on two."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from tests.chaos.conftest import MakeServer
from tests.chaos.flyte import SUCCEEDED, Calls, Work, ended, live

from flyteagents.testing import Delay, DropReply, JobService

HANG = 1.5
PROMISING = {"job_keyed": ("POST", "/jobs"), "job_named": ("PUT", "/jobs/*")}
"""The agents that promise one job whatever happens, and their submits."""
GENERATIONS = [1, 2]


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_the_next_attempt_on_another_server_takes_the_job_that_has_not_arrived_yet(
    make_server: MakeServer, vendor: JobService, generation: int
) -> None:
    first, second = await asyncio.gather(make_server(), make_server())
    async with first.channel() as one, second.channel() as two:

        async def overtaken(kind: str) -> None:
            submit = PROMISING[kind]
            vendor.script(*submit, Delay(HANG))  # only the first one hangs
            work = Work(kind, f"overtaken-{kind}", f'sleep 2; return "{kind}"', generation)
            await lost(Calls(one, generation), work, vendor, submit)
            assert not states(vendor, work), "the first submit must not have arrived yet"
            calls = Calls(two, generation)
            meta = await calls.create(work, attempt=1)
            assert len(states(vendor, work)) == 1
            await asyncio.sleep(HANG)  # now the first submit arrives
            assert (await ended(calls, work, meta, 1)).phase == SUCCEEDED
            assert vendor.count(*submit) >= 2
            assert states(vendor, work) == ["DONE"]

        await asyncio.gather(*map(overtaken, PROMISING))


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_the_same_attempt_repeated_on_another_server_names_the_same_job(
    make_server: MakeServer, vendor: JobService, generation: int
) -> None:
    first, second = await asyncio.gather(make_server(), make_server())
    async with first.channel() as one, second.channel() as two:

        async def repeated(kind: str) -> None:
            submit = PROMISING[kind]
            vendor.script(*submit, Delay(HANG))
            work = Work(kind, f"repeated-{kind}", f'sleep 0.5; return "{kind}"', generation)
            early = asyncio.ensure_future(Calls(one, generation).create(work))
            await vendor.until(*submit)
            late = await Calls(two, generation).create(work)
            assert not early.done()
            for channel, meta in ((two, await early), (one, late)):
                assert (await ended(Calls(channel, generation), work, meta)).phase == SUCCEEDED
            assert states(vendor, work) == ["DONE"]

        await asyncio.gather(*map(repeated, PROMISING))


async def test_an_agent_that_looks_jobs_up_waits_for_a_submit_that_its_own_replica_has_under_way(
    make_server: MakeServer, lookup_vendor: JobService
) -> None:
    server = await make_server()
    lookup_vendor.script("POST", "/jobs", Delay(HANG))
    work = Work("job_tagged", "overtaken", "sleep 2")
    async with server.channel() as channel:
        calls = Calls(channel)
        await lost(calls, work, lookup_vendor, ("POST", "/jobs"))
        meta = await calls.create(work, attempt=1)
        assert (await ended(calls, work, meta, 1)).phase == SUCCEEDED
    assert states(lookup_vendor, work) == ["DONE"]


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_a_retry_right_after_a_slow_cancel_runs_a_job_of_its_own(
    make_server: MakeServer, vendor: JobService, lookup_vendor: JobService, generation: int
) -> None:
    first, second = await asyncio.gather(make_server(), make_server())
    vendor.cancel_seconds = lookup_vendor.cancel_seconds = 2.0
    async with first.channel() as one, second.channel() as two:

        async def cancelled(kind: str) -> None:
            service = lookup_vendor if kind == "job_tagged" else vendor
            work = Work(kind, f"cancelled-{kind}", f'sleep 3; return "{kind}"', generation)
            meta = await Calls(one, generation).create(work)
            # A caller with little time is told to come back; Flyte 2 does not, and goes on.
            hurried = Calls(one, generation, timeout=1.0)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await hurried.delete(work, meta)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            if generation == 1:
                await hurried.delete(work, meta)
            assert states(service, work) == ["CANCELING"]
            calls = Calls(two, generation)
            meta = await calls.create(work, attempt=1)
            answer = await ended(calls, work, meta, 1)
            assert answer.phase == SUCCEEDED, answer.message
            assert states(service, work) == ["CANCELED", "DONE"]

        await asyncio.gather(*map(cancelled, (*PROMISING, "job_tagged")))


async def test_tasks_run_once_at_a_vendor_that_drops_every_second_reply(
    make_server: MakeServer, vendor: JobService
) -> None:
    server = await make_server()
    vendor.script("*", "*", DropReply(), None, repeat=True)
    works = [Work(kind, f"dropped-{kind}") for kind in PROMISING]
    async with server.channel() as channel:
        lives = await asyncio.gather(*(live(work, Calls(channel)) for work in works))
    assert [(one.phase, one.attempts, one.get_errors) for one in lives] == [(SUCCEEDED, 1, 0)] * 2
    assert len(vendor.jobs) == 2


async def lost(calls: Calls, work: Work, service: JobService, submit: tuple[str, str]) -> None:
    """A CreateTask whose caller hangs up when the submit is on the wire."""
    call = asyncio.ensure_future(calls.create(work))
    await service.until(*submit)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


def states(service: JobService, work: Work) -> list[str]:
    """The states of all jobs that were started for the task."""
    return [job.state for job in service.jobs.values() if job.script == work.script]
