"""The state and the reason of a job, and what Flyte is told."""

from __future__ import annotations

import json

import pytest
from tests.bigquery.driving import Driver
from tests.bigquery.fake_bigquery import FakeBigQuery, Plan
from tests.vendors.polls import is_unchanged

from flyteagents import JobNotFound, Phase, Reply, Unavailable
from flyteagents.testing import Response
from flyteagents_bigquery.job import BigQueryJob
from flyteagents_bigquery.reasons import words
from flyteagents_bigquery.resource import JobResource
from flyteagents_bigquery.states import read_state

F, R, A = Phase.FAILED, Phase.RETRYABLE_FAILED, Phase.ABORTED

REASONS = {
    "backendError": R,
    "internalError": R,
    "jobBackendError": R,
    "jobInternalError": R,
    "jobRateLimitExceeded": R,
    "rateLimitExceeded": R,
    "tableUnavailable": R,
    "resourceInUse": R,
    "badGateway": R,
    "accessDenied": F,
    "attributeError": F,
    "badRequest": F,
    "billingNotEnabled": F,
    "billingTierLimitExceeded": F,
    "blocked": F,
    "duplicate": F,
    "invalid": F,
    "invalidQuery": F,
    "invalidUser": F,
    "notFound": F,
    "notImplemented": F,
    "policyViolation": F,
    "proxyAuthenticationRequired": F,
    "resourcesExceeded": F,
    "responseTooLarge": F,
    "timeout": F,
    "quotaExceeded": F,
    "bytesBilledLimitExceeded": F,
    "stopped": A,
    "inventedTomorrow": F,
    "": F,
}


def ended(reason: str, message: str, **labels: str) -> JobResource:
    return JobResource.model_validate(
        {
            "jobReference": {"projectId": "p", "jobId": "j", "location": "EU"},
            "configuration": {"labels": labels},
            "status": {
                "state": "DONE",
                "errorResult": {"reason": reason, "message": message, "debugInfo": "x"},
            },
        }
    )


@pytest.mark.parametrize(("reason", "phase"), REASONS.items())
def test_each_reason_is_retried_or_not(reason: str, phase: Phase) -> None:
    reading = read_state(ended(reason, "the vendor's words"))
    assert reading.phase is phase
    assert reading.message == "the vendor's words | job=p:EU.j"
    assert reading.code == (reason or None)


@pytest.mark.parametrize(
    ("reason", "message", "phase"),
    [
        ("quotaExceeded", "Quota exceeded: Your table exceeded quota for imports per table", R),
        ("quotaExceeded", "Exceeded rate limits: too many concurrent queries", R),
        ("quotaExceeded", "too many table dml insert operations for this table", R),
        (
            "quotaExceeded",
            "Quota exceeded: Your project exceeded quota for maximum number of jobs that can be "
            "queued per project",
            R,
        ),
        (
            "quotaExceeded",
            "Quota exceeded: Your table exceeded quota for total number of dml jobs writing to a "
            "table, pending + running",
            R,
        ),
        ("quotaExceeded", "Quota exceeded: Read requests per minute per user", R),
        ("quotaExceeded", "Quota exceeded: jobs.insert requests per 100 seconds", R),
        ("quotaExceeded", "Quota exceeded for quota metric: ReadRequestsPerSecond", R),
        ("quotaExceeded", "Custom quota exceeded: Your usage exceeded QueryUsagePerDay", F),
        ("quotaExceeded", "Custom quota exceeded: too many bytes for QueryUsagePerUserPerDay", F),
        ("quotaExceeded", "Your project exceeded quota for tabledata.list bytes per day", F),
        (
            "resourcesExceeded",
            "Resources exceeded during query execution: Too many DML statements outstanding "
            "against table p:d.t, limit is 20.",
            R,
        ),
        (
            "resourcesExceeded",
            "Resources exceeded during query execution: The query could not be executed in the "
            "allotted memory. Peak usage: 101% of limit.",
            F,
        ),
        ("invalidQuery", "Exceeded rate limits: too many table update operations", R),
        ("invalidQuery", "Could not serialize access to table t due to concurrent update", R),
        ("invalidQuery", "Transaction is aborted due to concurrent update against table t", R),
        ("invalid", "Exceeded rate limits", R),
        ("invalidQuery", "Syntax error: Unexpected keyword rate at [1:8]", F),
    ],
)
def test_the_message_tells_what_the_reason_does_not(
    reason: str, message: str, phase: Phase
) -> None:
    assert read_state(ended(reason, message)).phase is phase


@pytest.mark.parametrize("reason", ["stopped", "timeout"])
def test_the_tasks_own_timeout_may_be_retried_and_the_configured_one_not(reason: str) -> None:
    message = "Job execution was cancelled: Job timed out after 12 min"
    ours = {"flyte-timeout": "task"}
    assert read_state(ended(reason, message, **ours)).phase is R
    assert read_state(ended(reason, message)).phase is F


async def test_errors_that_a_job_survived_do_not_fail_it(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    bigquery.will("SELECT", Plan(errors=[("invalidQuery", "handled by BEGIN ... EXCEPTION")]))
    status = await driver.run(driver.task())
    assert status.phase is Phase.SUCCEEDED
    assert status.info["warnings"] == ["handled by BEGIN ... EXCEPTION"]


async def test_a_failed_job_shows_the_vendors_words(bigquery: FakeBigQuery, driver: Driver) -> None:
    bigquery.will("SELECT", Plan(error=("invalidQuery", "No matching signature at [1:8]")))
    status = await driver.run(driver.task())
    assert status.phase is Phase.FAILED
    assert status.code == "invalidQuery"
    assert status.message == f"No matching signature at [1:8] | job=p:EU.{bigquery.job.id}"


@pytest.mark.parametrize(
    ("plan", "phase"),
    [
        (Plan(pending=60.0), Phase.INITIALIZING),
        (Plan(running=60.0), Phase.RUNNING),
        (Plan(), Phase.SUCCEEDED),
        (Plan(state="PAUSED"), None),
    ],
)
async def test_each_state_is_told_and_one_that_is_new_is_not_guessed(
    bigquery: FakeBigQuery, driver: Driver, plan: Plan, phase: Phase | None
) -> None:
    bigquery.will("SELECT", plan)
    job = await driver.create(driver.task())
    assert (await driver.get(job)).phase is phase


async def test_a_job_of_which_nothing_new_is_said_is_not_read_again(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    bigquery.will("SELECT", Plan(pending=60.0))
    job = await driver.create(driver.task())
    call = driver.env.call("get", job)
    assert await is_unchanged(lambda call: driver.agent.get(job, call), call)


@pytest.mark.parametrize(
    ("statistics", "why"),
    [
        ({}, "the job waits in BigQuery's queue"),
        (
            {"quotaDeferments": ["CONCURRENT_QUERIES"]},
            "BigQuery holds the job back for its quotas: CONCURRENT_QUERIES",
        ),
        ({"quotaDeferments": "odd"}, "the job waits in BigQuery's queue"),
    ],
)
async def test_a_waiting_job_says_why_it_waits(
    bigquery: FakeBigQuery, driver: Driver, statistics: dict[str, object], why: str
) -> None:
    bigquery.will("SELECT", Plan(pending=60.0, statistics=statistics))
    status = await driver.get(await driver.create(driver.task()))
    assert (status.phase, status.message) == (Phase.INITIALIZING, why)


async def test_a_job_without_a_state_is_not_guessed_at(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    from flyteagents.testing import Response

    job = await driver.create(driver.task())
    bigquery.script("GET", "*", Response(200, {"jobReference": {}, "status": {}}))
    bigquery.script("GET", "*", Response(200, {"jobReference": {}}))
    assert (await driver.get(job)).phase is None
    assert (await driver.get(job)).phase is None


async def test_a_poll_is_one_request_on_the_connection_that_is_open(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    bigquery.will("SELECT", Plan(running=60.0))
    job = await driver.create(driver.task())
    before = bigquery.total
    for _ in range(5):
        await driver.get(job)
    assert bigquery.total - before == 5
    assert bigquery.connections == 1


async def test_a_poll_asks_for_no_plans_and_timelines(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    await driver.run(driver.task())
    fields = bigquery.requests[-1].query["fields"]
    assert "queryPlan(recordsWritten)" in fields
    assert "timeline" not in fields


async def test_only_bigquery_itself_says_that_a_job_is_gone(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    job = await driver.create(driver.task())
    for body in (b"", "default backend - 404", {"message": "no Route matched"}):
        bigquery.script("*", "*", Response(404, body))
        with pytest.raises(Unavailable, match="not of BigQuery's own words"):
            await driver.get(job)
        bigquery.script("*", "*", Response(405, b""))
        with pytest.raises(Unavailable, match="may be a gateway's"):
            await driver.get(job)


async def test_a_job_is_looked_for_where_it_is(bigquery: FakeBigQuery, driver: Driver) -> None:
    bigquery.place = "asia-east1"
    job = await driver.create(driver.task("SELECT 1", {"ProjectID": "p", "Location": None}))
    assert job.location == "asia-east1"
    assert (await driver.get(job)).phase is Phase.SUCCEEDED
    astray = BigQueryJob(job_id=job.job_id, project="p", location="EU")
    with pytest.raises(JobNotFound):
        await driver.get(astray)


def test_a_long_message_is_cut_by_whoever_masks_the_secrets_in_it() -> None:
    """Half of one would not be known for one."""
    body = {"error": {"message": "x" * 3000, "errors": [{"reason": "invalidQuery"}]}}
    reply = Reply(400, {}, json.dumps(body).encode())
    assert words(reply) == ("invalidQuery", "x" * 3000)
