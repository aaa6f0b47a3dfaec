"""Vendors that fail for long, and vendors that are slow."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import replace

from tests.chaos.attempts import attempt
from tests.chaos.conftest import MakeServer

from flyteagents import Phase
from flyteagents._kernel import envelope
from flyteagents.testing import (
    Attempt,
    Caller,
    Cut,
    DropReply,
    JobService,
    Nonsense,
    Response,
    Rpc,
    SlowReply,
)

JOBS = 500
WORKERS = 10
OUTAGE = 12.0
"""Seconds. FlytePropeller polls each job every 30 s; here a job is polled every few seconds and
some of them ten times a second, which is what ten minutes are to it and more."""
FAILURES = (
    Response(503),
    Response(429, headers={"Retry-After": "30"}),
    Response(500, "out of order"),
    Cut(),
    Nonsense(),
    DropReply(),
    Response(502, "<html>bad gateway</html>"),
    Response(200, "<html>sign in</html>"),
    Response(200, {"surprise": True}),
    Response(401, {"error": {"message": "token service is down"}}),
)


async def test_no_poll_fails_in_a_long_outage_and_all_jobs_succeed(
    make_server: MakeServer, vendor: JobService
) -> None:
    first, second = await asyncio.gather(make_server(), make_server())
    works = [attempt("job_keyed", f"long-{n}", "forever") for n in range(JOBS)]
    async with first.caller() as one, second.caller() as two:
        metas = [(await one.create(work)).meta for work in works]
        # Every second job is five hours old, and nobody has polled it here.
        metas[::2] = [hours_old(meta) for meta in metas[::2]]
        polls = Polls(one, works, metas)
        await polls.once()
        assert set(polls.phases) == {Phase.RUNNING}

        everything = vendor.script("*", "*", *FAILURES * 15, SlowReply(3.0), repeat=True)
        ends = time.monotonic() + OUTAGE
        for _ in range(30):  # some of them see more than Flyte would bear, or a hasty patience
            await polls.once(slice(20))
        rounds = 0
        while time.monotonic() < ends or rounds < 4:
            if rounds == 1:  # to a replica that has never seen these jobs, and back to a new one
                polls.caller = two
                assert await first.stop() == 0
                restart = asyncio.ensure_future(first.start())
            if rounds == 3:
                await restart
                polls.caller = one
            await polls.once()
            rounds += 1
        # A replica that knows nothing of a job says what is likely at the job's age.
        assert set(polls.phases[::2]) == {Phase.RUNNING}
        assert set(polls.phases[1::2]) <= {Phase.RUNNING, Phase.INITIALIZING}

        everything.stop()
        for job in vendor.jobs.values():
            job.end()
        await polls.once()
        print(
            f"{JOBS} jobs, {rounds} rounds of polls in the outage, {polls.count} polls, "
            f"{len(polls.errors)} GetTask errors"
        )
        assert not polls.errors
        assert set(polls.phases) == {Phase.SUCCEEDED}
    assert len(vendor.jobs) == JOBS
    assert not any(job.cancels for job in vendor.jobs.values())


async def test_phases_move_when_every_answer_takes_longer_than_the_callers_deadline(
    make_server: MakeServer, vendor: JobService
) -> None:
    server = await make_server()
    vendor.script("*", "*", SlowReply(1.5), repeat=True)
    work = attempt("job_named", "slow", "pending 3; sleep 4")
    seen: list[Phase | None] = []
    async with server.caller(deadline=1.0) as calls:
        meta = (await calls.create(work, deadline=10.0)).meta
        ends = time.monotonic() + 60
        while time.monotonic() < ends and (not seen or seen[-1] is not Phase.SUCCEEDED):
            answer = await calls.get(work, meta)
            # It is answered within its second, but where this machine takes a third of it.
            if answer.code != "DEADLINE_EXCEEDED":
                seen.append(answer.phase)
            await asyncio.sleep(0.1)
    phases = [phase for phase, _ in itertools.groupby(seen)]
    assert phases == [Phase.INITIALIZING, Phase.RUNNING, Phase.SUCCEEDED]
    assert len(vendor.jobs) == 1


class Polls:
    """Polls all jobs in turn with as many workers as FlytePropeller has."""

    def __init__(self, caller: Caller, works: list[Attempt], metas: list[bytes]) -> None:
        self.phases: list[Phase | None] = [None] * len(works)
        self.errors: list[Rpc] = []
        self.count = 0
        self.caller = caller
        self._jobs = list(enumerate(zip(works, metas, strict=True)))

    async def once(self, jobs: slice = slice(None)) -> None:
        queue = iter(self._jobs[jobs])
        await asyncio.gather(*(self._worker(queue) for _ in range(WORKERS)))

    async def _worker(self, queue: Iterator[tuple[int, tuple[Attempt, bytes]]]) -> None:
        for number, (work, meta) in queue:
            self.count += 1
            polled = await self.caller.get(work, meta)
            if polled.ok:
                self.phases[number] = polled.phase
            else:
                self.errors.append(polled)


def hours_old(meta: bytes) -> bytes:
    there = envelope.load(meta)
    assert there is not None
    return envelope.dump(replace(there, created=there.created - 5 * 3600))
