"""Replies that are lost, servers that are killed and statements that die, on a Snowflake that runs
the SQL: each task's row is inserted once, whatever a repeated requestId does."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Mapping

import pytest
from tests.chaos.attempts import SCALE
from tests.chaos.conftest import MakeServer
from tests.chaos.servers import together
from tests.snowflake.driving import CONFIG, TASK_TYPE
from tests.snowflake.fake_snowflake import BASE, FakeSnowflake, Repeat
from tests.snowflake.logins import Logins, private_key
from tests.snowflake.statements import Plan

from flyteagents import Phase
from flyteagents.testing import (
    Attempt,
    Cut,
    DropReply,
    FakePropeller,
    FlyteTask,
    SlowReply,
    task_template,
)

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "50")) // 10
TASKS = 4
LOSSES = (None, None, SlowReply(0.2), DropReply())


@pytest.fixture(params=list(Repeat), ids=lambda repeat: str(repeat.value))
async def snowflake(request: pytest.FixtureRequest) -> AsyncIterator[FakeSnowflake]:
    async with FakeSnowflake() as snowflake:
        snowflake.repeats = request.param
        snowflake.logins = Logins({"ACCT.ME": [0]})
        snowflake.rows("CREATE TABLE public.t (n INT)")
        yield snowflake


def environment(snowflake: FakeSnowflake) -> Mapping[str, str]:
    return {
        "FLYTEAGENTS_SNOWFLAKE_URL": snowflake.url,
        "FLYTEAGENTS_SNOWFLAKE_FIND_BY_TAG": "true",
        "FLYTEAGENTS_SECRET_SNOWFLAKE_PRIVATE_KEY": private_key(),
    }


def insert(number: int, mark: str = "") -> FlyteTask:
    statement = f"INSERT INTO t VALUES ({number}) /* {mark} */"
    return task_template(TASK_TYPE, custom=CONFIG, sql=statement, retries=20)


async def test_no_row_is_lost_or_doubled_when_replies_are_lost_and_servers_are_killed(
    make_server: MakeServer, snowflake: FakeSnowflake
) -> None:
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(10**6)))
    print(f"CHAOS_SEED={seed}")
    chance = random.Random(seed)
    losses = [chance.choice(LOSSES) for _ in range(997)]
    snowflake.script("POST", BASE, *losses, repeat=True)
    env = environment(snowflake)
    replicas = [await make_server("snowflake", **env) for _ in range(2)]
    restart = asyncio.ensure_future(asyncio.sleep(0))
    target = together(*replicas)

    async with FakePropeller(target, scale=SCALE, deadline=5.0) as propeller:
        for number in range(ROUNDS):
            running = [
                propeller.start(insert(number * TASKS + task), attempts=21) for task in range(TASKS)
            ]
            await asyncio.sleep(chance.uniform(0.0, 0.4))
            await restart  # of the last one, so that one is always there
            victim = chance.choice(replicas)
            await victim.kill()
            restart = asyncio.ensure_future(victim.start())
            for execution in running:
                # A loaded machine's Snowflake may be slower than a create, which costs attempts.
                outcome = await execution.end(within=120.0)
                assert outcome.phase is Phase.SUCCEEDED, outcome
        await restart

    rows = snowflake.rows("SELECT n FROM public.t ORDER BY n")
    assert [int(str(row[0])) for row in rows] == list(range(ROUNDS * TASKS))


async def test_a_statement_that_dies_while_nobody_knows_it_is_run_anew_once(
    make_server: MakeServer, snowflake: FakeSnowflake
) -> None:
    """Its reply is lost, it ends with an incident, and the next attempt is on another replica."""
    snowflake.will("dies", Plan(running=0.5, error=("000603", "XX000", "an incident")))
    env = environment(snowflake)
    first, second = await asyncio.gather(
        make_server("snowflake", **env), make_server("snowflake", **env)
    )

    async with first.caller(deadline=2.0) as one, second.caller(deadline=5.0) as two:
        # A server's first request loads what it needs, which may take all of the deadline.
        warm = Attempt(task_template(TASK_TYPE, custom=CONFIG, sql="SELECT 1"), execution="warm")
        assert (await one.create(warm, deadline=20.0)).ok
        snowflake.statements.clear()
        # The submit, and the look-up after it.
        snowflake.script("POST", BASE, DropReply(), DropReply())

        attempt = Attempt(insert(7, "dies"))
        created = await one.create(attempt)
        assert created.ok
        await snowflake.submitted[0].work  # type: ignore[misc] # it was started
        del snowflake.plans["dies"]
        following = attempt.next()
        meta = (await two.create(following)).meta
        while (answer := await two.get(following, meta)).phase is not Phase.SUCCEEDED:
            assert answer.phase in (Phase.INITIALIZING, Phase.RUNNING), answer
            await asyncio.sleep(0.05)

    assert [one.state for one in snowflake.submitted] == ["FAILED_WITH_INCIDENT", "SUCCESS"]
    assert snowflake.rows("SELECT n FROM public.t") == [["7"]]


async def test_an_attempt_gets_through_though_each_answer_outlasts_its_deadline(
    make_server: MakeServer, snowflake: FakeSnowflake
) -> None:
    """What one attempt has begun to ask, the next one need not begin again."""
    server = await make_server("snowflake", **environment(snowflake))
    async with FakePropeller(server.target, scale=SCALE, deadline=1.0) as propeller:
        warm = task_template(TASK_TYPE, custom=CONFIG, sql="SELECT 1")
        assert (await propeller.run(warm, attempts=9, within=60.0)).phase is Phase.SUCCEEDED
        snowflake.script("POST", BASE, Cut())  # so it is asked for under that attempt's key
        slow = snowflake.script("*", "*", SlowReply(1.5), repeat=True)
        outcome = await propeller.run(insert(7), attempts=12, within=60.0)
        slow.stop()
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert snowflake.rows("SELECT n FROM public.t") == [["7"]]
