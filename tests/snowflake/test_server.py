"""The agent in a real server, called as Flyte calls it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import pytest
from tests.snowflake.driving import CONFIG, QUERY_ID, TASK_TYPE
from tests.snowflake.fake_snowflake import BASE, FakeSnowflake, Repeat
from tests.snowflake.logins import Logins, private_key
from tests.snowflake.statements import FOREVER, Plan
from tests.vendors import served
from tests.vendors.served import Served, assert_refused

from flyteagents import Phase, StructuredDataset
from flyteagents.testing import (
    FakePropeller,
    FlyteTask,
    Generation,
    Response,
    SlowReply,
    task_template,
)

RESULTS = {"results": StructuredDataset}
PERMANENT, PASSING = Phase.FAILED, Phase.RETRYABLE_FAILED
UNAVAILABLE = Response(503, {"code": "390000", "message": "down for a moment"})


def environment(snowflake: FakeSnowflake) -> Mapping[str, str]:
    return {
        "FLYTEAGENTS_SNOWFLAKE_URL": snowflake.url,
        "FLYTEAGENTS_SECRET_SNOWFLAKE_PRIVATE_KEY": private_key(),
    }


def flyte(
    snowflake: FakeSnowflake, generation: Generation = 1, deadline: float = 10.0, **env: str
) -> contextlib.AbstractAsyncContextManager[FakePropeller]:
    settings = {**environment(snowflake), **env}
    return served.flyte("snowflake", settings, generation=generation, deadline=deadline)


def task(statement: str = "SELECT 1", **options: Any) -> FlyteTask:
    """It is in `custom`, since an executor of Flyte 2 does not send a task without that."""
    return task_template(TASK_TYPE, custom=CONFIG, sql=statement, **options)


@pytest.fixture(autouse=True)
def forever(snowflake: FakeSnowflake) -> None:
    snowflake.will("forever", FOREVER)


@pytest.mark.parametrize("generation", [1, 2])
async def test_a_task_runs_to_its_output(snowflake: FakeSnowflake, generation: Generation) -> None:
    snowflake.logins = Logins({"ACCT.ME": [0]})
    async with flyte(snowflake, generation) as propeller:
        outcome = await propeller.run(
            task("SELECT SYSTEM$WAIT(0.3), %(n)s", inputs={"n": 1}, outputs=RESULTS), repeats=2
        )
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert outcome.failures == []
    uri = f"snowflake://me:acct/wh/db/public/{snowflake.statement.handle}"
    assert outcome.outputs == {"results": StructuredDataset(uri)}
    [link] = outcome.links
    assert link.uri.endswith(f"/queries/{snowflake.statement.handle}/detail")


class TestServed(Served[FakeSnowflake]):
    plugin = "snowflake"
    away = UNAVAILABLE
    away_words = "down for a moment"
    cancels = "*/cancel"
    unknown = json.dumps({**CONFIG, "query_id": QUERY_ID, "has_output": False}).encode()

    @pytest.fixture
    def vendor(self, snowflake: FakeSnowflake) -> FakeSnowflake:
        return snowflake

    def environment(self, vendor: FakeSnowflake) -> Mapping[str, str]:
        return environment(vendor)

    def runs(self, vendor: FakeSnowflake, seconds: float) -> FlyteTask:
        vendor.will("so long", Plan(running=seconds))
        return task("SELECT 'so long'", outputs=RESULTS)

    def never_starts(self) -> FlyteTask:
        return task("PUT x y")

    def started(self, vendor: FakeSnowflake) -> int:
        return len(vendor.submitted)


@pytest.mark.parametrize(
    ("reply", "phase", "words"),
    [
        (Response(400, {"code": "390142", "message": "no payload"}), PERMANENT, "no payload"),
        (Response(403, {"code": "390422", "message": "IP not allowed"}), PERMANENT, "IP not allow"),
        (Response(404, "<html>"), PERMANENT, "is its name right"),
        (
            Response(401, {"code": "390144", "message": "JWT token is invalid"}),
            PASSING,
            "JWT token",
        ),
        (Response(429, {"code": "390505", "message": "slow down"}), PASSING, "slow down"),
        (UNAVAILABLE, PASSING, "down for a moment"),
    ],
)
async def test_a_refused_submit_reaches_the_user_and_is_no_error_of_the_call(
    snowflake: FakeSnowflake, reply: Response, phase: Phase, words: str
) -> None:
    snowflake.script("POST", BASE, reply, repeat=True)
    async with flyte(snowflake) as propeller:
        await assert_refused(propeller, task(), phase, words)
    assert snowflake.submitted == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("SELECT * FROM nowhere", "[SNOWFLAKE_002003] SQL compilation error"),
        ("PUT file:///etc/passwd @s", "COPY INTO with a stage"),
        ("SELECT %(x)s", "no input for %(x)s"),
    ],
)
async def test_a_statement_that_can_never_work_is_tried_once_and_says_why(
    snowflake: FakeSnowflake, statement: str, words: str
) -> None:
    async with flyte(snowflake) as propeller:
        outcome = await propeller.run(task(statement, inputs={"n": 1}), attempts=3)
    assert (outcome.phase, outcome.attempts) == (Phase.FAILED, 1)
    assert words in outcome.message
    assert len(snowflake.submitted) <= 1


@pytest.mark.parametrize("repeats", list(Repeat), ids=lambda one: str(one.value))
async def test_a_statement_that_failed_for_the_moment_is_run_once_more_by_the_next_attempt(
    snowflake: FakeSnowflake, repeats: Repeat
) -> None:
    """And not once more again because the first one was asked for."""
    snowflake.repeats = repeats
    snowflake.will("once", Plan(error=("000603", "XX000", "an incident")))
    async with flyte(snowflake) as propeller:
        outcome = await propeller.run(task("SELECT 'once'"), attempts=2)
    assert (outcome.phase, outcome.attempts) == (Phase.FAILED, 2)
    assert len(snowflake.submitted) == 2


async def test_an_aborted_query_has_stopped_when_the_abort_is_answered(
    snowflake: FakeSnowflake,
) -> None:
    snowflake.will("slowly", Plan(running=60, dies=0.4))
    async with flyte(snowflake) as propeller:
        other = propeller.start(task("SELECT 'forever'"))
        execution = propeller.start(task("SELECT 'slowly'"))
        await execution.until(Phase.RUNNING)
        outcome = await execution.abort()
        stopped = next(one for one in snowflake.submitted if "slowly" in one.text)
        assert stopped.state == "ABORTED"
        assert execution.meta is not None
        assert (await propeller.delete(execution.attempt, execution.meta)).ok
        await other.until(Phase.RUNNING)
        assert (await propeller.get(other.attempt, other.meta or b"")).phase is Phase.RUNNING
        await other.abort()
    assert (outcome.phase, outcome.orphaned, outcome.failures) == (Phase.ABORTED, False, [])


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("knows", [True, False], ids=["known", "unknown"])
async def test_a_job_of_flytekits_connector_is_carried_on(
    snowflake: FakeSnowflake, generation: Generation, knows: bool
) -> None:
    snowflake.knows_drivers = knows
    theirs = snowflake.add("SELECT 1", FOREVER, handle=QUERY_ID)
    meta = json.dumps({**CONFIG, "query_id": QUERY_ID, "has_output": True}).encode()
    async with flyte(snowflake, generation) as propeller:
        attempt = propeller.attempt(task())
        answer = await propeller.get(attempt, meta)
        assert (answer.code, answer.phase) == ("OK", Phase.RUNNING)
        assert (await propeller.delete(attempt, meta)).ok
        assert theirs.state == "ABORTED"
        odd = await propeller.get(attempt, meta.replace(QUERY_ID.encode(), b"../x"))
        assert odd.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("repeats", list(Repeat), ids=lambda one: str(one.value))
async def test_a_lost_reply_with_find_by_tag_is_one_statement_whatever_snowflake_does(
    snowflake: FakeSnowflake, repeats: Repeat
) -> None:
    snowflake.repeats = repeats
    snowflake.rows("CREATE TABLE public.t (n INT)")
    snowflake.script("POST", BASE, SlowReply(4.0))
    statement = "INSERT INTO t SELECT range FROM range(3)"
    async with flyte(
        snowflake, deadline=2.0, FLYTEAGENTS_SNOWFLAKE_FIND_BY_TAG="true"
    ) as propeller:
        outcome = await propeller.run(task(statement), attempts=9)
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert len(snowflake.submitted) == 1
    assert len(snowflake.rows("SELECT * FROM public.t")) == 3
