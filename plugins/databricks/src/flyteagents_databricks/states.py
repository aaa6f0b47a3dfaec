"""How a run is doing, from the states of both generations of the Jobs API.

Names as `databricks.sdk.service.jobs` has them. One that Databricks did not have when this was
written is no phase: the run goes on as it was last seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from flyteagents import Phase
from flyteagents_databricks.run import Details, Run, RunTask

# INITIALIZING for what waits: Flyte drops QUEUED (docs/design.md, rule 6).
_GOING = {
    "QUEUED": Phase.INITIALIZING,
    "BLOCKED": Phase.INITIALIZING,
    "PENDING": Phase.INITIALIZING,
    "RUNNING": Phase.RUNNING,
    "TERMINATING": Phase.RUNNING,
    "WAITING_FOR_RETRY": Phase.RUNNING,
    "WAITING": Phase.RUNNING,
}
_OVER = frozenset({"TERMINATED", "SKIPPED", "INTERNAL_ERROR"})
_SUCCEEDED = frozenset({"SUCCESS", "SUCCESS_WITH_FAILURES"})
# Of tasks that did not run because of something else, and have no words of their own.
_QUIET = frozenset({*_SUCCEEDED, "EXCLUDED", "DISABLED", "UPSTREAM_FAILED", "UPSTREAM_CANCELED"})
_STOPPED = frozenset({"CANCELED", "USER_CANCELED", "CLUSTER_TERMINATED_BY_USER"})
CODE_FAILED = "RUN_EXECUTION_ERROR"
"""The termination code of a run whose own code failed."""

# Termination codes that another attempt may not meet again, limits that are free again in a while
# among them; Databricks tells those as the client's mistake.
_PASSING = frozenset(
    {
        "BREAKING_CHANGE",
        "CLOUD_FAILURE",
        "CLUSTER_ERROR",
        "CLUSTER_REQUEST_LIMIT_EXCEEDED",
        "DRIVER_ERROR",
        "MAXIMUM_CONCURRENT_RUNS_REACHED",
        "MAX_CONCURRENT_RUNS_EXCEEDED",
        "MAX_JOB_QUEUE_SIZE_EXCEEDED",
        "MAX_SPARK_CONTEXTS_EXCEEDED",
        "REPOSITORY_CHECKOUT_FAILED",
        "WORKSPACE_RUN_LIMIT_EXCEEDED",
    }
)
_PASSING_UNLESS_A_MISTAKE = frozenset(
    {"INTERNAL_ERROR", "LIBRARY_INSTALLATION_ERROR", "STORAGE_ACCESS_ERROR"}
)
_LASTING = frozenset(
    {
        "BUDGET_POLICY_LIMIT_EXCEEDED",
        "DISABLED",
        "EXCLUDED",
        "FEATURE_DISABLED",
        "INVALID_CLUSTER_REQUEST",
        "INVALID_RUN_CONFIGURATION",
        "RESOURCE_NOT_FOUND",
        "SKIPPED",
        "UNAUTHORIZED_ERROR",
        "UPSTREAM_CANCELED",
        "UPSTREAM_FAILED",
    }
)


@dataclass(frozen=True)
class Reading:
    """What a state means to Flyte.

    phase: None for a state that is not known.
    message, code: Databricks' own. code_failed: the run's own code failed, so whether another
        attempt may follow is for the code to say.
    cancelling: a cancel was accepted. timed_out: it reached the limit of its time.
    """

    phase: Phase | None
    message: str = ""
    code: str | None = None
    code_failed: bool = False
    cancelling: bool = False
    timed_out: bool = False


def read_state(run: Run) -> Reading:
    """What the run's state means."""
    life = run.state.life_cycle_state or run.status.state
    if life in _GOING:
        return Reading(_GOING[life], _waits(run, life), cancelling=_cancelling(run, life))
    if life not in _OVER:
        return Reading(None)

    ended = run.status.termination_details
    result = run.state.result_state or _result(ended, life)
    message = run.state.state_message or ended.message
    code = ended.code if ended.code not in ("", "SUCCESS") else result or life
    if result in _SUCCEEDED:
        partly = "some tasks of the run failed, and the run counts as a success"
        return Reading(Phase.SUCCEEDED, partly if result != "SUCCESS" else "")
    # Its termination code is that of what the platform cancels (databricks.sdk.service.jobs,
    # TerminationCodeCode).
    if result == "TIMEDOUT":
        return Reading(Phase.FAILED, message or "the run timed out", result, timed_out=True)
    if result in _STOPPED or code in _STOPPED:
        return Reading(Phase.ABORTED, message or "the run was cancelled at Databricks", code)
    # 2.1 has no termination details: there FAILED is all that is said.
    if code == CODE_FAILED or (code == "FAILED" and not ended.type):
        return Reading(Phase.FAILED, message, CODE_FAILED, code_failed=True)
    passing = _passes(code, ended.type, life)
    return Reading(Phase.RETRYABLE_FAILED if passing else Phase.FAILED, message, code)


def failures(tasks: Iterable[RunTask]) -> list[RunTask]:
    """The tasks of a run that has ended which failed by themselves, first the one that failed
    first: the others may have failed because of it. Those that were stopped go last."""
    ended = [(task, *_ending(task)) for task in tasks]
    failed = [one for one in ended if one[1] in _OVER and one[2] not in _QUIET]
    failed.sort(
        key=lambda one: (one[1] == "SKIPPED" or one[2] in _STOPPED, one[0].end_time or math.inf)
    )
    return [task for task, *_ in failed]


def _ending(task: RunTask) -> tuple[str, str]:
    life = task.state.life_cycle_state or task.status.state
    return life, task.state.result_state or _result(task.status.termination_details, life)


def _result(ended: Details, life: str) -> str:
    """The result where only 2.2's details tell it. INTERNAL_ERROR and SKIPPED have none."""
    if life == "TERMINATED" and ended.type == "SUCCESS":
        return ended.code or "SUCCESS"
    return ""


def _passes(code: str, kind: str, life: str) -> bool:
    """Whether another attempt may do better. `kind` is the type of the termination."""
    if kind == "CLOUD_FAILURE" or code in _PASSING:  # the loss of a spot instance has any code
        return True
    if code in _PASSING_UNLESS_A_MISTAKE:
        return kind != "CLIENT_ERROR"
    if code in _LASTING:
        return False
    return kind == "INTERNAL_ERROR" or (not kind and life == "INTERNAL_ERROR")


def _waits(run: Run, life: str) -> str:
    """Why a run does not run yet, or not any more."""
    if life in ("QUEUED", "BLOCKED"):
        return run.status.queue_details.message or run.state.queue_reason or f"the run is {life}"
    if life in ("WAITING_FOR_RETRY", "WAITING"):
        return "the run waits for Databricks to try it again"
    return run.state.state_message


def _cancelling(run: Run, life: str) -> bool:
    """A run that ends by itself is TERMINATING too, while its cluster is put away."""
    code = run.status.termination_details.code
    return life == "TERMINATING" and (run.state.user_cancelled_or_timedout or code in _STOPPED)
