"""`kill -9` while CreateTask is under way."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter

from tests.chaos.attempts import SCALE
from tests.chaos.conftest import MakeServer
from tests.chaos.servers import together

from flyteagents import Phase
from flyteagents.testing import (
    Delay,
    DropReply,
    FakePropeller,
    JobService,
    SlowReply,
    task_template,
)

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
    target = together(*replicas)
    errors = 0
    attempts: Counter[int] = Counter()
    restart = asyncio.ensure_future(asyncio.sleep(0))
    async with (
        FakePropeller(target, scale=SCALE, deadline=5.0) as one,
        FakePropeller(target, scale=SCALE, deadline=5.0, generation=2) as two,
    ):
        for number in range(ROUNDS):
            running = {}
            for kind in TYPES:
                for propeller in (one, two):
                    script = f'sleep 0.2; return "r{number}-{kind}-{propeller.generation}"'
                    task = task_template(kind, custom={"script": script})
                    # The state of some rounds is lost, so that they are repeated.
                    repeats = chance.choice((0, 0, 1))
                    running[script] = propeller.start(task, attempts=21, repeats=repeats)
            await asyncio.sleep(chance.uniform(0.0, 0.25))
            await restart  # of the last one, so that one is always there
            victim = chance.choice(replicas)
            await victim.kill()
            restart = asyncio.ensure_future(victim.start())
            for script, execution in running.items():
                outcome = await execution.end()
                started = [
                    job
                    for service in (vendor, lookup_vendor)
                    for job in service.jobs.values()
                    if job.script == script
                ]
                assert outcome.phase is Phase.SUCCEEDED, (number, script, outcome)
                assert [job.state for job in started] == ["DONE"], (number, outcome, started)
                errors += sum(not rpc.ok for rpc in outcome.calls("CreateTask"))
                attempts[outcome.attempts] += 1
        await restart
    print(f"{ROUNDS} kills, {errors} CreateTasks failed, tasks by attempts: {dict(attempts)}")
    assert errors > ROUNDS / 5, "the kills hit too few creates to show anything"
