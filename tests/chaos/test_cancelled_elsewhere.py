"""Three replicas: one took a create in an outage and died, one submits on, one is told to cancel.

The one that submits never hears of the cancel. What holds is a bound: its last submit begins before
the job is LAST seconds old and takes CALL_LIMIT at most, and the cancel looks until it is YOUNG.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.chaos.attempts import GENERATIONS, attempt
from tests.chaos.conftest import MakeServer

from flyteagents._kernel.call import CALL_LIMIT
from flyteagents._kernel.envelope import load
from flyteagents._kernel.flight import SKEW
from flyteagents._kernel.open_job import YOUNG
from flyteagents.testing import Attempt, Caller, Generation, Held, JobService, Response
from flyteagents.testing.contract.rig import aged

LAST = YOUNG - SKEW - CALL_LIMIT
SUBMIT = ("PUT", "/jobs/*")
LOOK = ("GET", "/jobs/*")


class Replicas:
    """The two that are left, and the job that both know of."""

    def __init__(self, submits: Caller, cancels: Caller, work: Attempt, meta: bytes) -> None:
        self.submits = submits
        self.cancels = cancels
        self.work = work
        self.meta = meta
        envelope = load(meta)
        assert envelope is not None
        self.born = time.monotonic() - (time.time() - envelope.created)

    def is_aged(self, seconds: float) -> None:
        """The job was created so long ago: the tests do not wait for minutes."""
        more = seconds - (time.monotonic() - self.born)
        self.meta = aged(self.meta, more)
        self.born -= more

    async def poll(self) -> str:
        answer = await self.submits.get(self.work, self.meta)
        assert answer.ok, answer
        return str(answer.resource.message)

    async def cancel(self) -> None:
        answer = await self.cancels.delete(self.work, self.meta, deadline=3.0)
        # A busy machine may take the rest of the time that is left for the answer's way.
        assert answer.code in ("OK", "DEADLINE_EXCEEDED"), answer


@asynccontextmanager
async def left(
    make_server: MakeServer, vendor: JobService, generation: Generation
) -> AsyncIterator[Replicas]:
    """After a create that was answered in an outage, whose replica is killed."""
    first, second, third = await asyncio.gather(*(make_server() for _ in range(3)))
    work = attempt("job_named", "elsewhere", "sleep 60", generation)
    away = vendor.script(*SUBMIT, Response(503), repeat=True)
    async with (
        first.caller(generation, deadline=5.0) as one,
        second.caller(generation) as two,
        third.caller(generation) as three,
    ):
        created = await one.create(work)
        assert created.ok, created
        await first.kill()
        yield Replicas(two, three, work, created.meta)
    away.stop()


def asked(vendor: JobService, method: str) -> list[float]:
    """When the vendor got its requests."""
    return [request.at for request in vendor.requests if request.method == method]


async def until_stopped(vendor: JobService, seconds: float) -> list[str]:
    """The states of all jobs, as soon as one is cancelled."""
    end = time.monotonic() + seconds
    while True:
        states = [job.state for job in vendor.jobs.values()]
        if "CANCELED" in states or time.monotonic() > end:
            return states
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_a_submit_that_was_on_its_way_when_another_replica_cancelled_is_stopped(
    make_server: MakeServer, vendor: JobService, generation: Generation
) -> None:
    async with left(make_server, vendor, generation) as replicas:
        await replicas.poll()
        await vendor.until(*SUBMIT, count=vendor.count(*SUBMIT) + 1)
        vendor.clear()
        arrives = asyncio.Event()
        vendor.script(*SUBMIT, Held(arrives))
        await vendor.until(*SUBMIT, count=vendor.count(*SUBMIT) + 1)
        await replicas.cancel()
        assert vendor.jobs == {}
        arrives.set()
        assert await until_stopped(vendor, 60) == ["CANCELED"]


async def test_a_poll_after_the_cancel_starts_a_job_that_the_cancel_stops(
    make_server: MakeServer, vendor: JobService
) -> None:
    async with left(make_server, vendor, 1) as replicas:
        await replicas.cancel()
        vendor.clear()
        assert "has not taken the job on yet" in await replicas.poll()
        assert await until_stopped(vendor, 60) == ["CANCELED"]
        again = vendor.count(*SUBMIT)
        await asyncio.sleep(1)
        assert vendor.count(*SUBMIT) == again


async def test_the_last_submit_begins_in_time(make_server: MakeServer, vendor: JobService) -> None:
    async with left(make_server, vendor, 1) as replicas:
        replicas.is_aged(LAST - 6)
        await replicas.cancel()
        await replicas.poll()
        first = vendor.count(*SUBMIT)
        await asyncio.sleep(10)
        await replicas.poll()  # too late to submit for it
        await asyncio.sleep(2)
        submits = asked(vendor, "PUT")
        assert len(submits) > first
        assert max(submits) - replicas.born < LAST + 3
        # And it is looked for all the while, so also when the last one lands.
        looks = asked(vendor, "GET")
        assert max(looks) > max(submits) + 2


async def test_the_last_look_comes_after_the_last_submit_has_landed(
    make_server: MakeServer, vendor: JobService
) -> None:
    async with left(make_server, vendor, 1) as replicas:
        replicas.is_aged(YOUNG - 5)
        looked = vendor.count(*LOOK)
        await replicas.cancel()
        await asyncio.sleep(10)
        looks = asked(vendor, "GET")[looked:]
        assert len(looks) > 2
        assert max(looks) - replicas.born >= YOUNG
        ended = vendor.count(*LOOK)
        await asyncio.sleep(6)
        assert vendor.count(*LOOK) == ended
