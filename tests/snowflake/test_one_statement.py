"""One attempt, one statement: what a repeated submit finds, as far as Snowflake promises it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.snowflake.driving import CONFIG, Driver
from tests.snowflake.fake_snowflake import BASE, FakeSnowflake, Repeat
from tests.snowflake.statements import FOREVER, Plan
from tests.snowflake.test_binding import INJECTED

from flyteagents import InvalidTask, JobConflict, Phase, Throttled, Unavailable
from flyteagents.testing import DropReply, Response

DOWN = Response(503, {"message": "try again"})


@pytest.fixture(params=list(Repeat), ids=lambda repeat: repeat.value)
def repeats(request: pytest.FixtureRequest, snowflake: FakeSnowflake) -> Repeat:
    snowflake.repeats = request.param
    found: Repeat = request.param
    return found


@pytest.fixture
async def looking(snowflake: FakeSnowflake) -> AsyncIterator[Driver]:
    """The agent with FIND_BY_TAG."""
    snowflake.will("forever", FOREVER)
    async with Driver(snowflake.url, find_by_tag=True).opened() as driver:
        yield driver


def settling(driver: Driver, task: Any, **options: Any) -> Any:
    """The kernel settles an earlier attempt."""
    return driver.find(task, settling=True, **options)


async def test_every_submit_carries_the_keys_request_id_and_retry(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    task = driver.task()
    await driver.create(task)
    [sent] = [one for one in snowflake.requests if one.method == "POST"]
    assert sent.query == {"requestId": str(task.key.uuid), "retry": "true", "async": "true"}


async def test_a_statement_that_succeeded_is_not_run_again_but_where_snowflake_always_does(
    snowflake: FakeSnowflake, driver: Driver, repeats: Repeat
) -> None:
    snowflake.rows("CREATE TABLE public.t (n INT)")
    task = driver.task("INSERT INTO public.t VALUES (1)")
    first = await driver.create(task)
    assert (await driver.ended(first)).phase is Phase.SUCCEEDED
    again = await driver.create(task)
    await driver.ended(again)
    rows = snowflake.rows("SELECT * FROM public.t")
    assert (again == first, len(rows)) == ((False, 2) if repeats is Repeat.ANEW else (True, 1))


async def test_another_attempt_is_another_statement(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    first = await driver.create(driver.task())
    assert await driver.create(driver.task(number=1)) != first
    assert len(snowflake.submitted) == 2


async def test_a_busy_snowflake_is_asked_again_with_the_same_request_id(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    busy = Response(429, {"code": "390505", "message": "slow down"})
    snowflake.script("POST", BASE, DOWN, busy, Response(502))
    await driver.create(driver.task())
    posts = [one for one in snowflake.requests if one.method == "POST"]
    assert len(posts) == 4
    assert len({one.query["requestId"] for one in posts}) == 1


async def test_a_request_that_is_turned_away_and_runs_all_the_same_is_the_job(
    snowflake: FakeSnowflake, driver: Driver, repeats: Repeat
) -> None:
    for status in (408, 422, 429):
        words = {"code": "390505", "message": "too many requests"}
        snowflake.will(f"odd {status}", Plan(refused=(status, words), started=True))
        job = await driver.create(driver.task(f"SELECT 'odd {status}'", execution=str(status)))
        assert (await driver.ended(job)).phase is Phase.SUCCEEDED
    assert len(snowflake.submitted) == 3


async def test_what_snowflake_refuses_is_told_in_its_words(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    words = {"code": "390142", "message": "no valid payload"}
    snowflake.will("bad", Plan(refused=(400, words)))
    with pytest.raises(InvalidTask, match="no valid payload") as raised:
        await driver.create(driver.task("SELECT 'bad'"))
    assert raised.value.code == "390142"
    snowflake.script("POST", BASE, Response(404, "<html>no such account</html>"))
    with pytest.raises(InvalidTask, match="is its name right"):
        await driver.create(driver.task())


async def test_what_an_input_says_is_never_a_statement(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    snowflake.rows("CREATE TABLE public.t (n INT)")
    for statement, value in INJECTED:
        with pytest.raises(InvalidTask, match="quotes of its own"):
            await driver.create(driver.task(statement, {"x": value}))
    assert snowflake.rows("SELECT count(*) FROM public.t") == [["0"]]


@pytest.mark.usefixtures("asked_once")
async def test_a_refusal_that_passes_ends_no_task(snowflake: FakeSnowflake, driver: Driver) -> None:
    incident = {"code": "000603", "sqlState": "XX000", "message": "Processing aborted by error 300"}
    snowflake.script("POST", BASE, Response(422, incident), repeat=True)
    with pytest.raises(Unavailable, match="aborted by error 300"):
        await driver.create(driver.task())


async def test_a_reply_without_a_statement_is_no_success(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    bodies: tuple[Any, ...] = ({"code": "333334"}, {"code": "090001"}, {}, [], "<html>")
    for body in bodies:
        snowflake.script("POST", BASE, Response(202, body))
        with pytest.raises(Unavailable):
            await driver.create(driver.task(), seconds=0.2)
    odd = {"code": "333334", "statementHandle": "x'; DROP TABLE t"}
    snowflake.script("POST", BASE, Response(202, odd))
    with pytest.raises(Unavailable):
        await driver.create(driver.task(), seconds=0.2)


async def test_a_first_send_is_not_looked_up(snowflake: FakeSnowflake, looking: Driver) -> None:
    task = looking.task("SELECT 'forever'")
    assert await looking.find(task) is None
    await looking.create(task)
    assert len(snowflake.statements) == 1


async def test_what_this_replica_has_sent_is_looked_up_before_it_is_sent_again(
    snowflake: FakeSnowflake, looking: Driver, repeats: Repeat
) -> None:
    task = looking.task("SELECT 'forever'")
    first = await looking.create(task)
    assert await looking.find(task) == first
    assert len(snowflake.submitted) == 1


async def test_a_lost_reply_is_looked_for_at_once(
    snowflake: FakeSnowflake, looking: Driver, repeats: Repeat
) -> None:
    snowflake.script("POST", BASE, DropReply())
    job = await looking.create(looking.task("SELECT 'forever'"))
    assert job.query_id == snowflake.statement.handle


@pytest.mark.parametrize("end", ["runs", "succeeded", "failed"])
async def test_an_earlier_attempts_statement_is_found_by_its_tag(
    snowflake: FakeSnowflake, looking: Driver, repeats: Repeat, end: str
) -> None:
    statement = {"runs": "SELECT 'forever'", "succeeded": "SELECT 1", "failed": "SELEC"}[end]
    task = looking.task(statement)
    first = await looking.create(task)
    if end != "runs":
        await looking.ended(first)
    async with Driver(snowflake.url, find_by_tag=True).opened() as other:
        assert await settling(other, task) == first
    assert len(snowflake.submitted) == 1


@pytest.mark.parametrize("second", ["SELECT 2", "SELECT * FROM nowhere"])
@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
async def test_several_statements_are_found_as_a_whole(
    snowflake: FakeSnowflake, looking: Driver, second: str, told: bool
) -> None:
    """A statement of theirs that succeeded does not stand for all, also where the history does not
    tell which is which."""
    snowflake.tells_several = told
    task = looking.task(f"SELECT 1; {second}")
    first = await looking.create(task)
    await looking.ended(first)
    assert await settling(looking, task) == first


async def test_of_two_statements_with_the_key_the_one_that_lives_is_taken(
    snowflake: FakeSnowflake, looking: Driver
) -> None:
    snowflake.repeats = Repeat.ANEW
    snowflake.will("once", Plan(error=("000603", "XX000", "incident")))
    task = looking.task("SELECT 'once'")
    failed = await looking.create(task)
    await looking.ended(failed)
    snowflake.will("once", FOREVER)
    second = await looking.create(task)
    assert second != failed
    assert await settling(looking, task) == second


async def test_what_the_history_does_not_show_yet_is_asked_for_under_its_own_request_id(
    snowflake: FakeSnowflake, looking: Driver
) -> None:
    """The history may be late, and a request may be on its way still."""
    snowflake.lag = 60.0
    task = looking.task("SELECT 'forever'")
    first = await looking.create(task)
    async with Driver(snowflake.url, find_by_tag=True).opened() as other:
        assert await settling(other, task) == first
    assert len(snowflake.submitted) == 1


async def test_other_work_under_the_key_is_a_conflict(
    snowflake: FakeSnowflake, looking: Driver
) -> None:
    await looking.create(looking.task("SELECT 'forever'"))
    with pytest.raises(JobConflict, match="does other work"):
        await looking.find(looking.task("SELECT 'forever', 2"))


async def test_the_look_up_carries_no_key_and_no_input_in_its_sql(
    snowflake: FakeSnowflake, looking: Driver
) -> None:
    config = {**CONFIG, "database": 'x"; DROP TABLE t --', "schema": "s"}
    task = looking.task("SELECT 'forever'", config=config)
    await looking.create(task)
    with pytest.raises(Unavailable, match="query history cannot be used"):
        await settling(looking, task)
    look = json.loads(snowflake.requests[-1].body)
    assert task.key.hex not in look["statement"]
    assert 'TABLE("x""; DROP TABLE t --".INFORMATION_SCHEMA.' in look["statement"]
    assert look["bindings"] == {"1": {"type": "TEXT", "value": task.key.hex}}
    assert "parameters" not in look


async def test_a_busy_warehouse_is_not_taken_for_no_statement(
    snowflake: FakeSnowflake, looking: Driver
) -> None:
    task = looking.task("SELECT 'forever'")
    await looking.create(task)
    snowflake.runner.busy.add("WH")
    with pytest.raises(Throttled, match="the warehouse wh is busy, suspended or being resumed"):
        await settling(looking, task, seconds=2.0)
    assert len(snowflake.submitted) == 1
    snowflake.runner.busy.clear()
    assert await settling(looking, task) is not None


@pytest.mark.parametrize(
    "answer",
    [
        Response(202, {"code": "333334", "message": "in progress"}),
        Response(408, {"code": "000630", "sqlState": "57014", "message": "timed out"}),
        Response(422, {"code": "000606", "sqlState": "57P03", "message": "no active warehouse"}),
        Response(500),
        Response(200, {}),
    ],
)
async def test_a_look_up_without_an_answer_sends_nothing(
    snowflake: FakeSnowflake, looking: Driver, answer: Response
) -> None:
    task = looking.task("SELECT 'forever'")
    await looking.create(task)
    script = snowflake.script("POST", BASE, answer, repeat=True)
    with pytest.raises((Throttled, Unavailable)):
        await settling(looking, task, seconds=2.0)
    script.stop()
    assert len(snowflake.submitted) == 1


async def test_a_look_up_that_finds_no_sql_api_says_nothing_of_the_statement(
    snowflake: FakeSnowflake, looking: Driver
) -> None:
    await looking.create(task := looking.task())
    gone = Response(404, {"code": "390404", "message": "no such URL"})
    snowflake.script("POST", BASE, gone, repeat=True)
    with pytest.raises(Unavailable, match="no such URL"):
        await looking.find(task, seconds=0.3)


async def test_a_look_up_needs_a_database(snowflake: FakeSnowflake, looking: Driver) -> None:
    config = {"account": "a", "user": "u"}
    with pytest.raises(InvalidTask, match="FLYTEAGENTS_SNOWFLAKE_DATABASE"):
        await settling(looking, looking.task(config=config))


async def test_submits_at_the_same_time_are_one_statement(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    task = driver.task("SELECT 'forever'")
    jobs = await asyncio.gather(*(driver.create(task) for _ in range(5)))
    assert len(set(jobs)) == len(snowflake.submitted) == 1
