"""States, results and termination codes, of both generations of the Jobs API."""

from __future__ import annotations

from typing import Any

import pytest

from flyteagents import Phase
from flyteagents_databricks.run import Run
from flyteagents_databricks.states import read_state

FAILED, RETRY, STOPPED = Phase.FAILED, Phase.RETRYABLE_FAILED, Phase.ABORTED


def reading(life: str, result: str = "", code: str = "", kind: str = "") -> Phase | None:
    state = {"life_cycle_state": life, "result_state": result or None}
    details = {"code": code, "type": kind} if code else None
    shown: dict[str, Any] = {"state": state, "status": {"termination_details": details}}
    return read_state(Run.model_validate(shown)).phase


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
def test_a_run_that_has_not_ended(life: str, phase: Phase | None) -> None:
    assert reading(life) is phase
    assert read_state(Run.model_validate({"status": {"state": life}})).phase is phase


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
def test_a_run_that_has_ended_in_2_1(life: str, result: str, phase: Phase) -> None:
    assert reading(life, result) is phase


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


@pytest.mark.parametrize("kind", ["INTERNAL_ERROR", "CLIENT_ERROR", "CLOUD_FAILURE", "A_NEW_ONE"])
@pytest.mark.parametrize(("code", "phases"), CODES, ids=[code for code, _ in CODES])
def test_every_termination_code_with_every_type(
    code: str, phases: dict[str, Phase], kind: str
) -> None:
    phase = phases.get(kind, phases[""])
    if kind == "CLOUD_FAILURE" and phase is FAILED and code != "RUN_EXECUTION_ERROR":
        phase = RETRY  # the loss of a spot instance has any code
    if kind == "A_NEW_ONE" and code == "A_NEW_ONE":
        phase = FAILED
    assert reading("TERMINATED", "FAILED", code, kind) is phase


def test_only_code_that_failed_may_say_itself_whether_to_try_again() -> None:
    ended = {"state": {"life_cycle_state": "TERMINATED", "result_state": "FAILED"}}
    assert read_state(Run.model_validate(ended)).code_failed
    details = {"termination_details": {"code": "DRIVER_ERROR", "type": "INTERNAL_ERROR"}}
    assert not read_state(Run.model_validate({**ended, "status": details})).code_failed


def test_a_run_that_waits_says_why() -> None:
    queued = {"queue_details": {"code": "X", "message": "too many runs"}}
    shown = {"state": {"life_cycle_state": "QUEUED"}, "status": queued}
    assert read_state(Run.model_validate(shown)).message == "too many runs"
    assert "BLOCKED" in read_state(Run.model_validate({"status": {"state": "BLOCKED"}})).message


def test_a_run_that_puts_its_cluster_away_is_not_being_cancelled() -> None:
    state = {"life_cycle_state": "TERMINATING", "state_message": "Terminating"}
    assert not read_state(Run.model_validate({"state": state})).cancelling
    stopped = {**state, "user_cancelled_or_timedout": True}
    assert read_state(Run.model_validate({"state": stopped})).cancelling
