"""Attempts that overtake each other, on one replica and on two."""

from __future__ import annotations

import asyncio

import pytest
from tests.chaos.attempts import GENERATIONS, SCALE, attempt, ended
from tests.chaos.conftest import MakeServer

from flyteagents import Phase
from flyteagents.testing import (
    Attempt,
    Caller,
    Delay,
    DropReply,
    FakePropeller,
    Generation,
    Held,
    JobService,
    Response,
    task_template,
)

HANG = 1.5
PROMISING = {"job_keyed": ("POST", "/jobs"), "job_named": ("PUT", "/jobs/*")}
"""The agents that promise one job whatever happens, and their submits."""


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_the_next_attempt_on_another_server_takes_the_job_that_has_not_arrived_yet(
    make_server: MakeServer, vendor: JobService, generation: Generation
) -> None:
    first, second = await asyncio.gather(make_server(), make_server())
    async with first.caller(generation) as one, second.caller(generation) as two:

        async def overtaken(kind: str) -> None:
            submit, arrives = PROMISING[kind], asyncio.Event()
            vendor.script(*submit, Held(arrives))  # only the first one hangs
            work = attempt(kind, f"overtaken-{kind}", f'sleep 2; return "{kind}"', generation)
            await lost(one, work, vendor, submit)
            assert not states(vendor, work), "the first submit must not have arrived yet"
            meta = (await two.create(work.next())).meta
            assert len(states(vendor, work)) == 1
            arrives.set()
            assert (await ended(two, work.next(), meta)).phase is Phase.SUCCEEDED
            assert vendor.count(*submit) >= 2
            assert states(vendor, work) == ["DONE"], "the first submit has arrived meanwhile"

        await asyncio.gather(*map(overtaken, PROMISING))


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_the_same_attempt_repeated_on_another_server_names_the_same_job(
    make_server: MakeServer, vendor: JobService, generation: Generation
) -> None:
    first, second = await asyncio.gather(make_server(), make_server())
    async with first.caller(generation) as one, second.caller(generation) as two:

        async def repeated(kind: str) -> None:
            submit, arrives = PROMISING[kind], asyncio.Event()
            vendor.script(*submit, Held(arrives))
            work = attempt(kind, f"repeated-{kind}", f'sleep 0.5; return "{kind}"', generation)
            early = asyncio.ensure_future(one.create(work))
            await vendor.until(*submit)
            late = await two.create(work)
            assert not early.done()
            arrives.set()
            for caller, created in ((two, await early), (one, late)):
                assert (await ended(caller, work, created.meta)).phase is Phase.SUCCEEDED
            assert states(vendor, work) == ["DONE"]

        await asyncio.gather(*map(repeated, PROMISING))


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_a_create_that_was_answered_in_an_outage_is_submitted_by_the_server_that_is_left(
    make_server: MakeServer, vendor: JobService, generation: Generation
) -> None:
    first, second = await asyncio.gather(make_server(), make_server())
    work = attempt("job_named", "left", "sleep 0.1", generation)
    away = vendor.script("PUT", "/jobs/*", Response(503), repeat=True)
    async with first.caller(generation) as one, second.caller(generation) as two:
        meta = (await one.create(work)).meta
        await first.kill()
        assert states(vendor, work) == []
        answer = await two.get(work, meta)
        assert "has not taken the job on yet" in answer.resource.message
        assert "503" in answer.resource.message
        away.stop()
        assert (await ended(two, work, meta)).phase is Phase.SUCCEEDED
    assert states(vendor, work) == ["DONE"]


async def test_an_agent_that_looks_jobs_up_waits_for_a_submit_that_its_own_replica_has_under_way(
    make_server: MakeServer, lookup_vendor: JobService
) -> None:
    server = await make_server()
    lookup_vendor.script("POST", "/jobs", Delay(HANG))
    work = attempt("job_tagged", "overtaken", "sleep 2")
    async with server.caller() as calls:
        await lost(calls, work, lookup_vendor, ("POST", "/jobs"))
        meta = (await calls.create(work.next())).meta
        assert (await ended(calls, work.next(), meta)).phase is Phase.SUCCEEDED
    assert states(lookup_vendor, work) == ["DONE"]


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_a_retry_right_after_a_slow_cancel_runs_a_job_of_its_own(
    make_server: MakeServer, vendor: JobService, lookup_vendor: JobService, generation: Generation
) -> None:
    first, second = await asyncio.gather(make_server(), make_server())
    vendor.cancel_seconds = lookup_vendor.cancel_seconds = 5.0
    async with first.caller(generation) as one, second.caller(generation) as two:

        async def cancelled(kind: str) -> None:
            service = lookup_vendor if kind == "job_tagged" else vendor
            work = attempt(kind, f"cancelled-{kind}", f'sleep 3; return "{kind}"', generation)
            meta = (await one.create(work)).meta
            # A caller with little time is told to come back; Flyte 2 does not, and goes on.
            assert not (await one.delete(work, meta, deadline=1.0)).ok
            if generation == 1:
                await one.delete(work, meta, deadline=1.0)
            assert states(service, work) == ["CANCELING"]
            meta = (await two.create(work.next())).meta
            answer = await ended(two, work.next(), meta)
            assert answer.phase is Phase.SUCCEEDED, answer
            while "CANCELING" in states(service, work):  # noqa: ASYNC110 # no event tells of it
                await asyncio.sleep(0.1)
            assert states(service, work) == ["CANCELED", "DONE"]

        await asyncio.gather(*map(cancelled, (*PROMISING, "job_tagged")))


async def test_tasks_run_once_at_a_vendor_that_drops_every_second_reply(
    make_server: MakeServer, vendor: JobService
) -> None:
    server = await make_server()
    vendor.script("*", "*", DropReply(), None, repeat=True)
    async with FakePropeller(server.target, scale=SCALE) as propeller:
        tasks = [task_template(kind, custom={"script": "sleep 0.3"}) for kind in PROMISING]
        outcomes = await asyncio.gather(*(propeller.run(task, attempts=4) for task in tasks))
    for outcome in outcomes:
        assert outcome.phase is Phase.SUCCEEDED, outcome
        assert (outcome.attempts, outcome.failures) == (1, [])
    assert len(vendor.jobs) == 2


async def lost(calls: Caller, work: Attempt, service: JobService, submit: tuple[str, str]) -> None:
    """A CreateTask whose caller hangs up when the submit is on the wire."""
    call = asyncio.ensure_future(calls.create(work))
    await service.until(*submit)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


def states(service: JobService, work: Attempt) -> list[str]:
    """The states of all jobs that were started for the task."""
    script = work.task.template.custom["script"]
    return [job.state for job in service.jobs.values() if job.script == script]
