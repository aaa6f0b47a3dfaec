"""One key, one job: what a repeated create finds, and what a refused one means."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from tests.bigquery.driving import CUSTOM, Driver
from tests.bigquery.fake_bigquery import FakeBigQuery, FakeJob, Plan, error

from flyteagents import (
    AgentError,
    Forbidden,
    InvalidTask,
    JobConflict,
    JobNotFound,
    Phase,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from flyteagents.testing import DropReply, Response

NOWHERE: dict[str, object] = {"ProjectID": "p", "Location": None}


async def test_the_same_attempt_is_one_job(bigquery: FakeBigQuery, driver: Driver) -> None:
    first = await driver.create(driver.task())
    again = await driver.create(driver.task())
    assert again == first
    assert bigquery.inserted == 1


async def test_another_attempt_is_another_job(bigquery: FakeBigQuery, driver: Driver) -> None:
    first = await driver.create(driver.task())
    second = await driver.create(driver.task(number=1))
    assert second.job_id != first.job_id
    assert bigquery.inserted == 2


async def test_a_lost_reply_is_not_a_second_job(bigquery: FakeBigQuery, driver: Driver) -> None:
    bigquery.script("POST", "*", DropReply())
    job = await driver.create(driver.task("INSERT INTO t VALUES (1)"))
    assert bigquery.inserted == 1
    assert bigquery.job.id == job.job_id


async def test_a_job_in_a_place_that_only_the_conflict_names_is_found(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    bigquery.place = "asia-east1"
    bigquery.script("POST", "*", DropReply())
    job = await driver.create(driver.task("SELECT 1", NOWHERE))
    assert job.location == "asia-east1"
    assert (await driver.get(job)).phase is Phase.SUCCEEDED


async def test_a_job_of_another_place_than_the_tasks_is_found(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    first = await driver.create(driver.task("SELECT 1", {**CUSTOM, "Location": "US"}))
    again = await driver.create(driver.task("SELECT 1", {**CUSTOM, "Location": "EU"}))
    assert again == first


async def test_a_project_of_a_domain_is_found_again(bigquery: FakeBigQuery, driver: Driver) -> None:
    task = driver.task("SELECT 1", {"ProjectID": "example.com:p", "Location": None})
    bigquery.place = "asia-east1"
    first = await driver.create(task)
    assert await driver.create(task) == first


async def test_a_job_that_cannot_be_seen_yet_is_named_and_polls_find_it(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    missing = error(404, "notFound", "Not found")
    await driver.create(driver.task("SELECT 1", NOWHERE))
    bigquery.script("GET", "*", missing, missing, missing)
    job = await driver.create(driver.task("SELECT 1", NOWHERE))
    assert job.location == "US"
    for _ in range(2):
        with pytest.raises(JobNotFound):
            await driver.get(job)
    assert (await driver.get(job)).phase is Phase.SUCCEEDED


async def test_other_work_under_our_id_is_a_conflict(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    await driver.create(driver.task("SELECT 1"))
    with pytest.raises(JobConflict, match="other work"):
        await driver.create(driver.task("SELECT 2"))


async def test_a_job_that_is_not_ours_is_a_conflict(bigquery: FakeBigQuery, driver: Driver) -> None:
    task = driver.task()
    name = f"flyte-{task.key.hex}"
    bigquery.add(FakeJob(name, "p", "EU", {"query": {"query": "SELECT 1"}}, Plan()))
    with pytest.raises(JobConflict):
        await driver.create(task)


async def test_other_work_that_was_not_seen_at_first_fails_the_task_and_is_left_alone(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    bigquery.will("SELECT 1", Plan(running=math.inf))
    await driver.create(driver.task("SELECT 1"))
    missing = error(404, "notFound", "Not found")
    bigquery.script("GET", "*", missing)
    job = await driver.create(driver.task("SELECT 2"))
    assert job == driver.agent.handle(driver.task("SELECT 2"))
    status = await driver.get(job)
    assert status.phase is Phase.FAILED
    assert status.message is not None
    assert "other work" in status.message
    assert bigquery.job.cancels == 0


@pytest.mark.parametrize("what", ["Table p:ds.made", "Routine p:ds.f", "Dataset p:ds"])
async def test_what_a_statement_cannot_create_since_it_exists_is_not_taken_for_the_job(
    bigquery: FakeBigQuery, driver: Driver, what: str
) -> None:
    taken = (409, "duplicate", f"Already Exists: {what}")
    bigquery.will("CREATE", Plan(rejected=taken))
    with pytest.raises(InvalidTask, match=what):
        await driver.create(driver.task("CREATE TABLE ds.made (x INT64)"))


async def test_a_conflict_that_says_nothing_is_asked_about_again_later(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    bigquery.script("POST", "*", Response(409, {"error": {"message": "?"}}))
    with pytest.raises(Unavailable, match="does not say where"):
        await driver.create(driver.task("SELECT 1", NOWHERE))


@pytest.mark.usefixtures("asked_once")
async def test_a_gateways_conflict_is_no_job(bigquery: FakeBigQuery, driver: Driver) -> None:
    bigquery.script("POST", "*", Response(409, "conflict"))
    with pytest.raises(Unavailable, match="not of BigQuery's own words"):
        await driver.create(driver.task("SELECT 1"))


@pytest.mark.usefixtures("asked_once")
@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (400, "invalidQuery", InvalidTask),
        (400, "invalid", InvalidTask),
        (400, "badRequest", InvalidTask),
        (403, "accessDenied", Forbidden),
        (403, "billingNotEnabled", Forbidden),
        (403, "quotaExceeded", Forbidden),
        (403, "responseTooLarge", Forbidden),
        (404, "notFound", InvalidTask),
        (412, "conditionNotMet", InvalidTask),
        (501, "notImplemented", InvalidTask),
        (403, "rateLimitExceeded", Throttled),
        (429, "rateLimitExceeded", Throttled),
        (400, "tableUnavailable", Unavailable),
        (400, "resourceInUse", Unavailable),
        (500, "internalError", Unavailable),
        (502, "badGateway", Unavailable),
        (503, "backendError", Unavailable),
        (401, "authError", Unauthenticated),
        (418, "inventedTomorrow", InvalidTask),
        (555, "inventedTomorrow", Unavailable),
        (409, "aborted", Unavailable),
    ],
)
async def test_each_refusal_of_the_insert_has_its_meaning(
    bigquery: FakeBigQuery, driver: Driver, status: int, reason: str, kind: type[AgentError]
) -> None:
    bigquery.will("SELECT", Plan(rejected=(status, reason, "BigQuery's own words")))
    task = driver.task()
    with pytest.raises(AgentError, match=r"BigQuery's own words|invalid authentication") as raised:
        await driver.create(task)
    assert type(raised.value) is kind
    if status not in (401, 429):
        assert raised.value.code == reason


async def test_a_busy_bigquery_is_asked_again_with_the_same_id(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    bigquery.script("POST", "*", Response(503), Response(429), Response(502))
    job = await driver.create(driver.task())
    assert bigquery.count("POST") == 4
    assert {one.json()["jobReference"]["jobId"] for one in bigquery.requests} == {job.job_id}


async def test_a_job_that_nobody_was_told_of_is_named_wherever_it_is(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    bigquery.place = "asia-east1"
    task = driver.task("SELECT 1", NOWHERE)
    named = await driver.env.find(task)  # its insert may arrive yet
    assert bigquery.jobs == {}
    assert named is not None
    assert named.location == "asia-east1"
    made = await driver.create(task)
    assert await driver.env.find(task) == made
    assert bigquery.inserted == 1


async def test_a_job_of_other_work_is_not_found_and_neither_is_a_dry_run(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    await driver.create(driver.task("SELECT 1"))
    assert await driver.env.find(driver.task("SELECT 2")) is None
    assert await driver.env.find(driver.task("SELECT 1", {**CUSTOM, "dryRun": True})) is None


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        (403, "quotaExceeded", "maximum number of jobs that can be queued per project"),
        (403, "quotaExceeded", "total number of dml jobs writing to a table, pending + running"),
        (403, "quotaExceeded", "Quota exceeded: concurrent api requests per second"),
        (400, "resourcesExceeded", "Too many DML statements outstanding against table p:d.t"),
    ],
)
async def test_a_queue_that_is_full_for_a_moment_is_waited_for(
    bigquery: FakeBigQuery,
    driver: Driver,
    status: int,
    reason: str,
    message: str,
    request: pytest.FixtureRequest,
) -> None:
    full = error(status, reason, message)
    bigquery.script("POST", "*", full, full)
    await driver.create(driver.task())
    assert (bigquery.count("POST"), bigquery.inserted) == (3, 1)

    bigquery.script("POST", "*", full, repeat=True)
    request.getfixturevalue("asked_once")
    with pytest.raises(Throttled, match=re.escape(message)):
        await driver.create(driver.task(number=1))


async def test_a_project_given_by_number_is_found_though_the_conflict_names_its_id(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    task = driver.task("SELECT 1", {"ProjectID": "123456789", "Location": None})
    bigquery.place = "asia-east1"
    first = await driver.create(task)
    text = f"Already Exists: Job my-project:asia-east1.{first.job_id}"
    bigquery.script("POST", "*", error(409, "duplicate", text))
    assert await driver.create(task) == first


async def test_a_job_that_bigquery_does_not_describe_is_taken_for_ours(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    first = await driver.create(driver.task())
    reference = {"projectId": "p", "jobId": first.job_id, "location": "EU"}
    bigquery.script("GET", "*", Response(200, {"jobReference": reference}))
    assert await driver.create(driver.task()) == first


@pytest.mark.parametrize(
    ("statement", "hint"),
    [
        ("SELECT 1 -- one SELECT 2", "comments out"),
        ("SELECT {{ .inputs.x }}", "query parameters"),
    ],
)
async def test_a_rejected_statement_comes_with_a_hint(
    bigquery: FakeBigQuery, driver: Driver, statement: str, hint: str
) -> None:
    bigquery.will("SELECT", Plan(rejected=(400, "invalidQuery", "Syntax error at [1:8]")))
    with pytest.raises(InvalidTask, match=hint) as raised:
        await driver.create(driver.task(statement))
    assert raised.value.message.startswith("Syntax error at [1:8]")


async def test_a_dry_run_starts_nothing_and_tells_its_bytes(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    bigquery.will("SELECT", Plan(statistics={"totalBytesProcessed": "123"}))
    task = driver.task("SELECT 1", {**CUSTOM, "dryRun": True})
    status = await driver.run(task)
    assert status.phase is Phase.SUCCEEDED
    assert status.info == {"state": "DONE", "bytes_processed": 123}
    assert status.statistics == {"bytes_processed": 123}
    assert bigquery.jobs == {}
    job = await driver.create(task)
    await driver.cancel(job)
    declared: Any = {"results": None}
    assert (await driver.get(job, declared=declared)).phase is Phase.FAILED


async def test_cancel_is_asked_for_where_the_job_is(bigquery: FakeBigQuery, driver: Driver) -> None:
    bigquery.will("SELECT", Plan(running=math.inf))
    job = await driver.create(driver.task())
    bigquery.script("POST", "*/cancel", Response(200, "<html>down for maintenance</html>"))
    with pytest.raises(Unavailable, match="is a page"):
        await driver.cancel(job)
    await driver.cancel(job)
    await driver.cancel(job)
    assert bigquery.job.cancels == 2
    status = await driver.get(job)
    assert status.phase is Phase.ABORTED
    assert status.message is not None
    assert "User requested cancellation" in status.message


async def test_a_cancel_that_meets_another_request_is_asked_for_again(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    bigquery.will("SELECT", Plan(running=math.inf))
    job = await driver.create(driver.task())
    bigquery.script("POST", "*/cancel", error(409, "aborted", "two requests met"), repeat=True)
    with pytest.raises(Unavailable, match="two requests met"):
        await driver.cancel(job, seconds=0.1)


async def test_a_finished_job_stays_as_it_is_when_it_is_cancelled(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    job = await driver.create(driver.task())
    await driver.cancel(job)
    assert (await driver.get(job)).phase is Phase.SUCCEEDED
    with pytest.raises(JobNotFound):
        await driver.cancel(job.model_copy(update={"job_id": "unknown"}))
