"""States, results and termination codes, of both generations of the Jobs API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from tests.databricks.driving import HOST, Driver
from tests.databricks.fake_databricks import FakeDatabricks
from tests.databricks.runs import Plan
from tests.vendors.polls import is_unchanged

from flyteagents import Phase, Status
from flyteagents_databricks.job import DatabricksJob

FAILED, RETRY, STOPPED = Phase.FAILED, Phase.RETRYABLE_FAILED, Phase.ABORTED
JOB = DatabricksJob(databricks_instance=HOST, run_id="77")


@pytest.fixture
async def driver(
    databricks: FakeDatabricks, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Driver]:
    monkeypatch.setenv("FLYTEAGENTS_SECRET_FLYTE_DATABRICKS_ACCESS_TOKEN", "dapi-of-the-service")
    # So that code that failed is told from what passes.
    async with Driver(databricks.url, retry_failed_code=False).opened() as driver:
        yield driver


async def told(databricks: FakeDatabricks, driver: Driver, shown: Mapping[str, Any]) -> Status:
    """What a poll says of a run that Databricks shows like this."""
    databricks.add(77, Plan(state=shown))
    return await driver.get(JOB)


def ended(life: str, result: str = "", code: str = "", kind: str = "") -> Mapping[str, Any]:
    state = {"life_cycle_state": life, "result_state": result or None}
    details = {"code": code, "type": kind} if code else None
    return {"state": state, "status": {"termination_details": details}}


@pytest.mark.parametrize(
    ("life", "phase"),
    [
        ("QUEUED", Phase.INITIALIZING),
        ("BLOCKED", Phase.INITIALIZING),
        ("PENDING", Phase.INITIALIZING),
        ("RUNNING", Phase.RUNNING),
        ("TERMINATING", Phase.RUNNING),
        ("WAITING_FOR_RETRY", Phase.RUNNING),
        ("WAITING", Phase.RUNNING),
        ("HIBERNATING", None),
        ("", None),
    ],
)
async def test_a_run_that_has_not_ended(
    databricks: FakeDatabricks, driver: Driver, life: str, phase: Phase | None
) -> None:
    for shown in (ended(life), {"status": {"state": life}}):
        assert (await told(databricks, driver, shown)).phase is phase


async def test_a_run_of_which_nothing_new_is_said_is_not_read_again(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    databricks.add(77, Plan(state=ended("RUNNING")))
    assert await is_unchanged(lambda call: driver.agent.get(JOB, call), driver.call("get", JOB))


@pytest.mark.parametrize(
    ("life", "result", "phase"),
    [
        ("TERMINATED", "SUCCESS", Phase.SUCCEEDED),
        ("TERMINATED", "SUCCESS_WITH_FAILURES", Phase.SUCCEEDED),
        ("TERMINATED", "FAILED", FAILED),
        ("TERMINATED", "TIMEDOUT", FAILED),
        ("TERMINATED", "CANCELED", STOPPED),
        ("TERMINATED", "MAXIMUM_CONCURRENT_RUNS_REACHED", RETRY),
        ("TERMINATED", "UPSTREAM_FAILED", FAILED),
        ("TERMINATED", "UPSTREAM_CANCELED", FAILED),
        ("TERMINATED", "EXCLUDED", FAILED),
        ("TERMINATED", "DISABLED", FAILED),
        ("TERMINATED", "ASTONISHED", FAILED),
        ("TERMINATED", "", FAILED),
        ("SKIPPED", "", FAILED),
        ("INTERNAL_ERROR", "", RETRY),
    ],
)
async def test_a_run_that_has_ended_in_2_1(
    databricks: FakeDatabricks, driver: Driver, life: str, result: str, phase: Phase
) -> None:
    assert (await told(databricks, driver, ended(life, result))).phase is phase


@pytest.mark.parametrize("result", ["CANCELED", ""])
async def test_what_somebody_stopped_is_no_success_although_its_type_is(
    databricks: FakeDatabricks, driver: Driver, result: str
) -> None:
    plan = ended("TERMINATED", result, "USER_CANCELED", "SUCCESS")
    assert (await told(databricks, driver, plan)).phase is STOPPED


async def test_a_run_that_timed_out_was_not_cancelled_and_may_be_tried_after_flytes_own_limit(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    # What the platform stops has the code of what it cancels.
    for details in ((), ("CANCELED", "CLIENT_ERROR")):
        status = await told(databricks, driver, ended("TERMINATED", "TIMEDOUT", *details))
        assert (status.phase, status.code) == (FAILED, "TIMEDOUT")
        assert "timed out" in (status.message or "")
    theirs = JOB.model_copy(update={"limited": True})
    assert (await driver.get(theirs)).phase is RETRY


CODES: list[tuple[str, dict[str, Phase]]] = [
    ("BREAKING_CHANGE", {"": RETRY}),
    ("BUDGET_POLICY_LIMIT_EXCEEDED", {"": FAILED}),
    ("CANCELED", {"": STOPPED}),
    ("USER_CANCELED", {"": STOPPED}),
    ("CLUSTER_TERMINATED_BY_USER", {"": STOPPED}),
    ("CLOUD_FAILURE", {"": RETRY}),
    ("CLUSTER_ERROR", {"": RETRY}),
    ("CLUSTER_REQUEST_LIMIT_EXCEEDED", {"": RETRY}),
    ("DISABLED", {"": FAILED}),
    ("DRIVER_ERROR", {"": RETRY}),
    ("FEATURE_DISABLED", {"": FAILED}),
    ("INTERNAL_ERROR", {"": RETRY, "CLIENT_ERROR": FAILED}),
    ("INVALID_CLUSTER_REQUEST", {"": FAILED}),
    ("INVALID_RUN_CONFIGURATION", {"": FAILED}),
    ("LIBRARY_INSTALLATION_ERROR", {"": RETRY, "CLIENT_ERROR": FAILED}),
    ("MAX_CONCURRENT_RUNS_EXCEEDED", {"": RETRY}),
    ("MAX_JOB_QUEUE_SIZE_EXCEEDED", {"": RETRY}),
    ("MAX_SPARK_CONTEXTS_EXCEEDED", {"": RETRY}),
    ("REPOSITORY_CHECKOUT_FAILED", {"": RETRY}),
    ("RESOURCE_NOT_FOUND", {"": FAILED}),
    ("RUN_EXECUTION_ERROR", {"": FAILED}),
    ("SKIPPED", {"": FAILED}),
    ("STORAGE_ACCESS_ERROR", {"": RETRY, "CLIENT_ERROR": FAILED}),
    ("UNAUTHORIZED_ERROR", {"": FAILED}),
    ("WORKSPACE_RUN_LIMIT_EXCEEDED", {"": RETRY}),
    ("A_NEW_ONE", {"": RETRY, "CLIENT_ERROR": FAILED}),
]


@pytest.mark.parametrize(("code", "phases"), CODES, ids=[code for code, _ in CODES])
async def test_every_termination_code_with_every_type(
    databricks: FakeDatabricks, driver: Driver, code: str, phases: dict[str, Phase]
) -> None:
    for kind in ("INTERNAL_ERROR", "CLIENT_ERROR", "CLOUD_FAILURE", "A_NEW_ONE"):
        phase = phases.get(kind, phases[""])
        if kind == "CLOUD_FAILURE" and phase is FAILED and code != "RUN_EXECUTION_ERROR":
            phase = RETRY  # the loss of a spot instance has any code
        if kind == "A_NEW_ONE" and code == "A_NEW_ONE":
            phase = FAILED
        status = await told(databricks, driver, ended("TERMINATED", "FAILED", code, kind))
        assert status.phase is phase, kind


async def test_where_2_1_tells_no_code_it_is_the_runs_own_code_that_failed(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    shown = {"state": {"life_cycle_state": "TERMINATED", "result_state": "FAILED"}}
    assert (await told(databricks, driver, shown)).code == "RUN_EXECUTION_ERROR"
    details = {"termination_details": {"code": "DRIVER_ERROR", "type": "INTERNAL_ERROR"}}
    assert (await told(databricks, driver, {**shown, "status": details})).code == "DRIVER_ERROR"


async def test_a_run_that_waits_says_why(databricks: FakeDatabricks, driver: Driver) -> None:
    queued = {"queue_details": {"code": "X", "message": "too many runs"}}
    shown = {"state": {"life_cycle_state": "QUEUED"}, "status": queued}
    assert (await told(databricks, driver, shown)).message == "too many runs"
    blocked = await told(databricks, driver, {"status": {"state": "BLOCKED"}})
    assert "BLOCKED" in str(blocked.message)


async def test_a_run_that_puts_its_cluster_away_is_not_being_cancelled(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    state = {"life_cycle_state": "TERMINATING", "state_message": "Terminating"}
    assert not (await told(databricks, driver, {"state": state})).cancelling
    stopped = {**state, "user_cancelled_or_timedout": True}
    assert (await told(databricks, driver, {"state": stopped})).cancelling
