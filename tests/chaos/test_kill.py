"""`kill -9` while CreateTask is under way."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter

from tests.chaos.conftest import MakeServer
from tests.chaos.flyte import SUCCEEDED, Calls, Work, live
from tests.chaos.servers import round_robin

from flyteagents.testing import Delay, DropReply, JobService, SlowReply

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "50"))
# A vendor that dedupes our key may take a submit however late; one that is only asked whether
# there is a job must have taken it when the next attempt asks.
KEYED = (None, None, Delay(0.05), Delay(0.3), SlowReply(0.1), DropReply())
TAGGED = (None, None, SlowReply(0.1), DropReply())
TYPES = ("job_keyed", "job_named", "job_tagged")


async def test_no_job_is_lost_or_doubled_when_servers_are_killed_during_create(
    make_server: MakeServer, vendor: JobService, lookup_vendor: JobService
) -> None:
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(10**6)))
    print(f"CHAOS_SEED={seed}")
    chance = random.Random(seed)
    for steps, service in ((KEYED, vendor), (TAGGED, lookup_vendor)):
        mixed = [chance.choice(steps) for _ in range(997)]
        service.script("P*", "/jobs*", *mixed, repeat=True)
    replicas = [await make_server(), await make_server()]
    channel = round_robin(*replicas)
    calls = {generation: Calls(channel, generation) for generation in (1, 2)}
    errors = 0
    attempts: Counter[int] = Counter()
    restart = asyncio.ensure_future(asyncio.sleep(0))
    for number in range(ROUNDS):
        works = [
            Work(
                kind, f"r{number}-{kind}-{i}", f'sleep 0.2; return "r{number}-{kind}-{i}"', gen, 20
            )
            for kind in TYPES
            for i, gen in ((0, 1), (1, 2))
        ]
        lives = [
            asyncio.ensure_future(
                live(work, calls[work.generation], repeats=lambda: chance.random() < 0.3)
            )
            for work in works
        ]
        await asyncio.sleep(chance.uniform(0.0, 0.25))
        await restart  # of the last one, so that one is always there
        victim = chance.choice(replicas)
        await victim.kill()
        restart = asyncio.ensure_future(victim.start())
        for work, life in zip(works, await asyncio.gather(*lives), strict=True):
            started = [
                job
                for service in (vendor, lookup_vendor)
                for job in service.jobs.values()
                if job.script == work.script
            ]
            assert life.phase == SUCCEEDED, (number, work, life)
            assert [job.state for job in started] == ["DONE"], (number, work, life, started)
            errors += life.create_errors
            attempts[life.attempts] += 1
    await restart
    await channel.close()
    print(f"{ROUNDS} kills, {errors} CreateTasks failed, tasks by attempts: {dict(attempts)}")
    assert errors > ROUNDS / 5, "the kills hit too few creates to show anything"
