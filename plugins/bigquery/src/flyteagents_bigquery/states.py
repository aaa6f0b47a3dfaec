"""How a job is doing, from BigQuery's three states and the reason it ended for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flyteagents import Phase
from flyteagents_bigquery.labels import TIMEOUT
from flyteagents_bigquery.reasons import passes
from flyteagents_bigquery.resource import JobResource

_STATES = {
    "PENDING": Phase.INITIALIZING,
    "RUNNING": Phase.RUNNING,
    "DONE": Phase.SUCCEEDED,
}
_TIMED_OUT = re.compile(r"timed? ?out", re.I)


@dataclass(frozen=True)
class Reading:
    """`phase` is None for a state that BigQuery did not have when this was written."""

    phase: Phase | None
    message: str = ""
    code: str | None = None


def read_state(job: JobResource) -> Reading:
    """What the job's state means to Flyte."""
    phase = _STATES.get(job.status.state)
    problem = job.status.error_result
    if phase is Phase.INITIALIZING:
        return Reading(phase, _why_it_waits(job))
    if phase is not Phase.SUCCEEDED or problem is None:
        return Reading(phase)
    reference = job.job_reference
    name = f"{reference.project_id}:{reference.location}.{reference.job_id}"
    text = f"{problem.message or 'the job failed'} | job={name}"
    return Reading(_ending(job, problem.reason, problem.message), text, problem.reason or None)


def _why_it_waits(job: JobResource) -> str:
    """BigQuery names the quotas that hold a job back; else it waits for slots."""
    quotas = job.statistics.get("quotaDeferments")
    if isinstance(quotas, list) and quotas:
        return f"BigQuery holds the job back for its quotas: {', '.join(map(str, quotas[:5]))}"
    return "the job waits in BigQuery's queue"


def _ending(job: JobResource, reason: str, message: str) -> Phase:
    if reason in ("stopped", "timeout") and _TIMED_OUT.search(message):
        # Our own limit stands for the task's timeout, after which Flyte may try again.
        ours = job.configuration.labels.get(TIMEOUT) == "task"
        return Phase.RETRYABLE_FAILED if ours else Phase.FAILED
    if reason == "stopped":
        return Phase.ABORTED
    return Phase.RETRYABLE_FAILED if passes(reason, message) else Phase.FAILED
