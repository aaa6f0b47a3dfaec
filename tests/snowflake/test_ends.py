"""How a statement does: every answer of the SQL API, every state, every end."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.snowflake.driving import CONFIG, QUERY_ID, Driver
from tests.snowflake.fake_snowflake import FakeSnowflake
from tests.snowflake.statements import Plan

from flyteagents import (
    JobNotFound,
    Kind,
    Phase,
    StructuredDataset,
    Throttled,
    Type,
    Unavailable,
)
from flyteagents.testing import Response
from flyteagents_snowflake.reasons import ending, place_of_failure, words
from flyteagents_snowflake.states import phase_of

RESULTS = {"results": StructuredDataset}


async def failed(driver: Driver, statement: str, **options: Any) -> tuple[Phase | None, str, str]:
    status = await driver.run(driver.task(statement, **options))
    # What a statement that runs has told is told until its end, however that comes.
    assert status.info["query_id"]
    return status.phase, status.code or "", status.message or ""


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        ("RUNNING", Phase.RUNNING),
        ("ABORTING", Phase.RUNNING),
        ("SUCCESS", Phase.SUCCEEDED),
        ("FAILED_WITH_ERROR", Phase.FAILED),
        ("ABORTED", Phase.ABORTED),
        ("QUEUED", Phase.INITIALIZING),
        ("FAILED_WITH_INCIDENT", Phase.RETRYABLE_FAILED),
        ("DISCONNECTED", Phase.RETRYABLE_FAILED),
        ("RESUMING_WAREHOUSE", Phase.INITIALIZING),
        ("QUEUED_REPARING_WAREHOUSE", Phase.INITIALIZING),
        ("RESTARTED", Phase.RUNNING),
        ("BLOCKED", Phase.INITIALIZING),
        ("NO_DATA", Phase.INITIALIZING),
        ("queued_repairing_warehouse", Phase.INITIALIZING),
        ("INVENTED_TOMORROW", None),
    ],
)
def test_every_state_has_its_phase(state: str, phase: Phase | None) -> None:
    assert phase_of(state) is phase


@pytest.mark.parametrize(
    ("code", "state", "phase"),
    [
        ("000603", "XX000", Phase.RETRYABLE_FAILED),
        ("370001", "XX000", Phase.RETRYABLE_FAILED),
        ("000625", "57014", Phase.RETRYABLE_FAILED),
        ("000629", "57014", Phase.RETRYABLE_FAILED),
        ("390114", "08001", Phase.RETRYABLE_FAILED),
        ("000604", "57014", Phase.ABORTED),
        ("000630", "57014", Phase.FAILED),
        ("001003", "42000", Phase.FAILED),
        ("002003", "42S02", Phase.FAILED),
        ("003001", "42501", Phase.FAILED),
        ("000606", "57P03", Phase.FAILED),
        ("090073", "22000", Phase.FAILED),
        ("100038", "22018", Phase.FAILED),
        ("100132", "P0000", Phase.FAILED),
        ("999999", "99999", Phase.FAILED),
    ],
)
async def test_every_error_is_permanent_or_passes(
    snowflake: FakeSnowflake, driver: Driver, code: str, state: str, phase: Phase
) -> None:
    snowflake.will("once", Plan(error=(code, state, "in Snowflake's words")))
    status = await driver.run(driver.task("SELECT 'once'"))
    assert (status.phase, status.code) == (phase, code)
    assert status.message is not None
    assert status.message.startswith("in Snowflake's words | ")
    assert status.message.endswith(f"query={snowflake.statement.handle}")


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("000604", "somebody has cancelled it at Snowflake"),
        ("000606", "or the service FLYTEAGENTS_SNOWFLAKE_WAREHOUSE"),
        ("090105", "or the service FLYTEAGENTS_SNOWFLAKE_DATABASE"),
        ("002003", "asked as me: has the role the right?"),
        ("003001", "asked as me: has the role the right?"),
    ],
)
async def test_a_failure_says_what_to_do_where_snowflakes_words_do_not(
    snowflake: FakeSnowflake, driver: Driver, code: str, hint: str
) -> None:
    snowflake.will("once", Plan(error=(code, "", "in Snowflake's words")))
    status = await driver.run(driver.task("SELECT 'once'"))
    assert str(status.message).startswith("in Snowflake's words | ")
    assert hint in str(status.message)


def test_the_task_s_own_limit_may_be_tried_again() -> None:
    assert ending("000630", "57014", limited=True) is Phase.RETRYABLE_FAILED


async def test_a_statement_that_takes_too_long_is_stopped_by_snowflake(driver: Driver) -> None:
    custom = {
        **CONFIG,
        "connection_kwargs": {"session_parameters": {"STATEMENT_TIMEOUT_IN_SECONDS": 1}},
    }
    phase, code, text = await failed(driver, "SELECT SYSTEM$WAIT(30)", custom=custom)
    assert (phase, code) == (Phase.FAILED, "000630")
    assert "statement timeout of 1 second" in text


async def test_a_statement_that_runs_is_running(snowflake: FakeSnowflake, driver: Driver) -> None:
    job = await driver.create(driver.task("SELECT 'forever'"))
    status = await driver.get(job)
    assert (status.phase, status.message) == (Phase.RUNNING, None)


@pytest.mark.parametrize(
    ("reply", "phase"),
    [
        (Response(200, {"code": "333334", "message": "still"}), Phase.RUNNING),
        (Response(202, {"code": "333333", "message": "still"}), Phase.RUNNING),
        (Response(202, {"code": "777777", "message": "invented"}), Phase.RUNNING),
        (Response(200, {"code": "391908", "message": "result too large"}), Phase.SUCCEEDED),
        (Response(200, {"code": "000604", "sqlState": "57014", "message": "x"}), Phase.ABORTED),
        (Response(200, {"code": "777777", "message": "invented"}), None),
        (Response(422, {"code": "000710", "sqlState": "02000", "message": "x"}), Phase.FAILED),
        (Response(408, {"code": "000630", "sqlState": "57014", "message": "x"}), Phase.FAILED),
        (Response(422, {"statementHandle": QUERY_ID, "message": "x"}), Phase.FAILED),
    ],
)
async def test_every_answer_has_its_meaning(
    snowflake: FakeSnowflake, driver: Driver, reply: Response, phase: Phase | None
) -> None:
    job = await driver.create(driver.task("SELECT 'forever'", outputs=RESULTS))
    snowflake.script("GET", "*", reply)
    status = await driver.get(job, declared={"results": Type(Kind.STRUCTURED_DATASET)})
    assert status.phase is phase
    if phase is Phase.SUCCEEDED:
        assert status.outputs


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Response(404, {"code": "390404", "message": "x"}), JobNotFound),
        (Response(422, {"code": "000709", "sqlState": "02000", "message": "x"}), JobNotFound),
        (Response(429, {"code": "390505", "message": "x"}, {"Retry-After": "7"}), Throttled),
        (Response(429, {"code": "390505", "message": "x", "statementHandle": QUERY_ID}), Throttled),
        (Response(500), Unavailable),
        (Response(503), Unavailable),
        (Response(408, "<html>a proxy's</html>"), Unavailable),
        (Response(404, "default backend - 404"), Unavailable),
        (Response(405), Unavailable),
        (Response(200, {}), Unavailable),
        (Response(200, []), Unavailable),
        (Response(200, {"code": "090001", "statementHandle": 7}), Unavailable),
    ],
)
async def test_every_trouble_is_told_apart(
    snowflake: FakeSnowflake, driver: Driver, reply: Response, error: type[Exception]
) -> None:
    job = await driver.create(driver.task("SELECT 'forever'"))
    snowflake.script("GET", "*", reply)
    with pytest.raises(error) as raised:
        await driver.get(job)
    assert isinstance(raised.value, error)
    if isinstance(raised.value, Throttled):
        assert raised.value.retry_after in (7, math.inf)


async def test_rows_that_an_error_quotes_are_not_shown(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    text = "NULL result in a non-nullable column\nRow Values: ['secret', [1]]"
    snowflake.will("load", Plan(error=("100072", "22000", text)))
    _, _, told = await failed(driver, "COPY 'load'")
    assert "secret" not in told
    assert "Row Values: (not shown)" in told
    assert words("") == "Snowflake does not say why"
    # Cut by whoever masks secrets in it: half of one would not be known for one.
    assert words("x" * 3000) == "x" * 3000


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("SELEC 1; SELECT 2", "statement 1 of 2 failed; none took effect | SQL compilation error"),
        (
            "INSERT INTO t VALUES (1);\n  INSERT INTO t VALUES ('x'); SELECT 3",
            "statement 2 of 3 failed; statement 1 took effect, unless a transaction of theirs was "
            "not committed | SQL compilation error",
        ),
        (
            "INSERT INTO t VALUES (2); INSERT INTO t VALUES (3); SELECT CAST('x' AS INT)",
            "statement 3 of 3 failed; statements 1 to 2 took effect, unless",
        ),
    ],
)
async def test_a_failure_of_several_says_what_took_effect_before_it(
    snowflake: FakeSnowflake, driver: Driver, statement: str, told: str
) -> None:
    snowflake.rows("CREATE TABLE IF NOT EXISTS public.t (n INT)")
    statement = statement.replace("SELEC 1", "SELECT * FROM nowhere")
    phase, code, text = await failed(driver, statement)
    assert (phase, code) == (Phase.FAILED, "100132")
    assert text.startswith(told.replace("SQL compilation error", "")[:60])
    assert "SYSTEM$MULTISTMT" not in text


async def test_a_statement_that_goes_before_the_tasks_is_not_counted(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    given = {"connection_kwargs": {"session_parameters": {"WEEK_START": 1}}}
    custom = {**CONFIG, **given}
    _, _, alone = await failed(driver, "SELECT * FROM nowhere", custom=custom)
    assert alone.startswith("SQL compilation error")
    two = "SELECT 1; SELECT * FROM nowhere"
    _, _, second = await failed(driver, two, custom=custom, execution="2")
    assert second.startswith("statement 2 of 2 failed; statement 1 took effect")


def test_a_failure_in_many_statements_names_its_place() -> None:
    message = (
        'Uncaught Execution of multiple statements failed on statement "SELECT ..." (at line 7, '
        "position 3).\nit broke in SYSTEM$MULTISTMT at 'throw'"
    )
    assert place_of_failure(message) == (7, 3, "it broke")


async def test_a_cancel_that_is_turned_away_by_name_may_be_asked_again(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    job = await driver.create(driver.task("SELECT 'forever'"))
    busy = {"code": "390505", "message": "slow down", "statementHandle": job.query_id}
    snowflake.script("POST", "*", Response(429, busy))
    with pytest.raises(Throttled):
        await driver.cancel(job)
    await driver.cancel(job)
    assert (await driver.get(job)).phase is Phase.ABORTED


async def test_only_snowflake_itself_says_that_there_is_nothing_to_cancel(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    job = await driver.create(driver.task("SELECT 'forever'"))
    for reply in (Response(422, "unprocessable"), Response(404), Response(400, "bad request")):
        snowflake.script("POST", "*", reply)
        with pytest.raises(Unavailable):
            await driver.cancel(job)


async def test_a_transaction_that_fails_leaves_nothing(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    snowflake.rows("CREATE TABLE public.t (n INT)")
    await failed(driver, "BEGIN; INSERT INTO t VALUES (1); SELECT * FROM nowhere; COMMIT")
    assert snowflake.rows("SELECT * FROM public.t") == []
    custom = {**CONFIG, "connection_kwargs": {"session_parameters": {"WEEK_START": 1}}}
    task = driver.task("INSERT INTO t VALUES (1)", custom=custom, execution="2")
    assert (await driver.run(task)).phase is Phase.SUCCEEDED
    assert snowflake.rows("SELECT * FROM public.t") == [["1"]]


async def test_cancelling_one_statement_leaves_the_others(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    first = await driver.create(driver.task("SELECT 'forever'"))
    second = await driver.create(driver.task("SELECT 'forever'", execution="2"))
    snowflake.script("POST", "*/cancel", Response(200, "<html>down for maintenance</html>"))
    with pytest.raises(Unavailable, match="is a page"):
        await driver.cancel(first)
    await driver.cancel(first)
    status = await driver.ended(first)
    assert (status.phase, status.code) == (Phase.ABORTED, "000604")
    assert (await driver.get(second)).phase is Phase.RUNNING
    third = await driver.create(driver.task("SELECT 'forever'", execution="3"))
    assert (await driver.get(third)).phase is Phase.RUNNING


async def test_cancelling_what_has_ended_changes_nothing(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    job = await driver.create(driver.task())
    await driver.ended(job)
    await driver.cancel(job)
    assert (await driver.get(job)).phase is Phase.SUCCEEDED
    unknown = job.model_copy(update={"query_id": "0" * 8 + job.query_id[8:]})
    with pytest.raises(JobNotFound):
        await driver.cancel(unknown)


async def test_each_of_several_statements_is_cancelled(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    task = driver.task("SELECT 1; SELECT SYSTEM$WAIT(60); SELECT 3")
    job = await driver.create(task)
    handles = [f"{one}-0000-4000-8000-000000000000" for one in ("0000000a", "0000000b")]
    snowflake.script("GET", "*", Response(202, {"code": "333334", "statementHandles": handles}))
    await driver.cancel(job)
    cancels = [one.path for one in snowflake.requests if one.path.endswith("/cancel")]
    assert len(cancels) == 3
    assert (await driver.ended(job)).phase is Phase.ABORTED


async def test_a_log_says_what_is_known(snowflake: FakeSnowflake, driver: Driver) -> None:
    job = await driver.create(driver.task("SELECT 1; SELECT 2"))
    await driver.ended(job)
    call = driver.call("logs", job)
    found = await driver.agent.logs(job, call, "", 10)
    assert [line.message.partition(":")[0] for line in found.lines] == [
        f"query {job.query_id} was submitted",
        "statement 1",
        "statement 2",
        "done",
    ]
    broken = await driver.create(driver.task("SELEC", execution="2"))
    await driver.ended(broken)
    last = (await driver.agent.logs(broken, driver.call("logs", broken), "", 10)).lines[-1]
    assert last.message.startswith("001003 (42000): SQL compilation error")
    assert math.isfinite(len(found.next))
