"""What rides in `resource_meta`, also that of flytekit's and flyte-sdk's connectors."""

from __future__ import annotations

import asyncio
import json

import pytest
from pydantic import ValidationError
from tests.snowflake.driving import QUERY_ID, Driver
from tests.snowflake.fake_snowflake import FakeSnowflake
from tests.snowflake.statements import FOREVER, Plan
from tests.vendors.polls import is_unchanged

from flyteagents import JobNotFound, Link, Phase, StructuredDataset
from flyteagents.testing import Response
from flyteagents_snowflake.job import SnowflakeJob

THEIRS: dict[str, object] = {
    "user": "me",
    "account": "org-acct",
    "database": "db",
    "schema": "public",
    "warehouse": "wh",
    "query_id": QUERY_ID,
    "has_output": True,
}
FLYTEKIT = json.dumps(THEIRS)
FLYTE_SDK = json.dumps(
    {
        **THEIRS,
        "connection_kwargs": {"password": "hunter2", "role": "R", "login_timeout": 60.0},
    }
)
GONE = Response(422, {"code": "000709", "sqlState": "02000", "message": "Statement not found"})


@pytest.mark.parametrize("knows", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("meta", [FLYTEKIT, FLYTE_SDK], ids=["flytekit", "flyte-sdk"])
async def test_a_query_that_another_connector_started_is_polled_and_cancelled(
    snowflake: FakeSnowflake, driver: Driver, meta: str, knows: bool
) -> None:
    """Whether or not the SQL API knows the queries of drivers."""
    snowflake.knows_drivers = knows
    theirs = snowflake.add("SELECT 1", FOREVER, handle=QUERY_ID)
    job = SnowflakeJob.model_validate_json(meta)
    assert (await driver.get(job)).phase is Phase.RUNNING
    await driver.cancel(job)
    assert theirs.cancels == 1
    assert (await driver.ended(job)).phase is Phase.ABORTED


@pytest.mark.parametrize("knows", [True, False], ids=["known", "unknown"])
async def test_its_result_is_what_the_other_connector_would_have_returned(
    snowflake: FakeSnowflake, driver: Driver, knows: bool
) -> None:
    snowflake.knows_drivers = knows
    snowflake.add("SELECT 1", Plan(), handle=QUERY_ID)
    for meta, where in ((FLYTEKIT, "me:org-acct"), (FLYTE_SDK, "me/org-acct")):
        status = await driver.ended(SnowflakeJob.model_validate_json(meta))
        uri = f"snowflake://{where}/wh/db/public/{QUERY_ID}"
        assert status.outputs == {"results": StructuredDataset(uri)}
    without = SnowflakeJob.model_validate({**THEIRS, "has_output": False})
    assert (await driver.ended(without)).outputs == {}


@pytest.mark.parametrize(
    ("plan", "phase", "code"),
    [
        (Plan(error=("002003", "42S02", "no table")), Phase.FAILED, "002003"),
        (Plan(error=("000603", "XX000", "incident")), Phase.RETRYABLE_FAILED, "000603"),
        (Plan(running=60, state="RESUMING_WAREHOUSE"), Phase.INITIALIZING, None),
        (Plan(running=60, state="BLOCKED"), Phase.INITIALIZING, None),
        (Plan(running=60, state="INVENTED"), None, None),
    ],
)
async def test_a_query_that_the_sql_api_does_not_know_is_looked_up_in_the_history(
    snowflake: FakeSnowflake, driver: Driver, plan: Plan, phase: Phase | None, code: str | None
) -> None:
    snowflake.knows_drivers, snowflake.unknown = False, GONE
    theirs = snowflake.add("SELECT 1", plan, handle=QUERY_ID)
    job = SnowflakeJob.model_validate_json(FLYTEKIT)
    if plan.error and theirs.work is not None:
        await theirs.work
    else:
        await asyncio.sleep(0.02)  # for its plan to begin
    status = await driver.get(job)
    assert (status.phase, status.code) == (phase, code)
    if plan.error:
        assert plan.error[2] in (status.message or "")


@pytest.mark.parametrize("knows", [True, False], ids=["known", "unknown"])
async def test_only_what_the_sql_api_says_of_a_query_is_not_read_again(
    snowflake: FakeSnowflake, driver: Driver, knows: bool
) -> None:
    """What the history says changes behind an answer that stays the same."""
    snowflake.knows_drivers, snowflake.unknown = knows, GONE
    snowflake.add("SELECT 1", FOREVER, handle=QUERY_ID)
    job = SnowflakeJob.model_validate_json(FLYTEKIT)
    call = driver.call("get", job)
    assert await is_unchanged(lambda call: driver.agent.get(job, call), call) is knows


async def test_a_query_that_nobody_knows_is_not_found(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    job = SnowflakeJob.model_validate_json(FLYTEKIT)
    with pytest.raises(JobNotFound):
        await driver.get(job)
    ours = await driver.create(driver.task())
    snowflake.script("GET", "*", GONE)
    with pytest.raises(JobNotFound):
        await driver.get(ours)


def test_nothing_secret_is_kept_of_another_connectors_meta() -> None:
    job = SnowflakeJob.model_validate_json(FLYTE_SDK)
    assert "hunter2" not in f"{job!r} {job} {job.model_dump_json()}"
    given = {"region": "eu-central-1", "password": "hunter2"}
    moved = SnowflakeJob.model_validate({**THEIRS, "account": "xy1", "connection_kwargs": given})
    assert moved.account == "xy1.eu-central-1"


@pytest.mark.parametrize(
    "change",
    [
        {"query_id": "x'); DROP TABLE t; --"},
        {"query_id": "../../other"},
        {"query_id": ""},
        {"account": "a b"},
        {"account": "a@evil.example"},
        {"user": "a\nb"},
        {"host": "evil.example/x"},
        {"host": "user@evil.example"},
        {"connection_kwargs": {"host": "evil.example/x?"}},
        {"auth_token": "x"},
    ],
)
def test_what_is_no_job_of_snowflakes_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SnowflakeJob.model_validate({**THEIRS, **change})


def test_the_links_are_those_of_the_connectors_and_lead_to_the_query() -> None:
    agent = Driver(None).agent
    uri = f"https://app.snowflake.com/org/acct/#/compute/history/queries/{QUERY_ID}/detail"
    found = [agent.links(SnowflakeJob.model_validate_json(meta)) for meta in (FLYTEKIT, FLYTE_SDK)]
    assert found == [[Link("Snowflake Query Details", uri)], [Link("Snowflake Dashboard", uri)]]
