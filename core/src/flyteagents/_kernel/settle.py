"""Earlier attempts, settled before a new job is asked for: the job of one of them may be there,
or on its way from another replica, and nobody else will ever ask for it.

Flyte comes back 0.1 s after a CreateTask that failed, with the next attempt, and never cancels the
job of the last one, whose name it was not told (flyteplugins .../webapi/launcher.go:17-20).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

from flyteagents._errors import JobConflict, JobNotFound, Throttled, Unavailable, VendorError
from flyteagents._job import Job
from flyteagents._kernel.call import ask_patiently
from flyteagents._kernel.cancel import dying
from flyteagents._kernel.detached import wait_within
from flyteagents._kernel.flight import Flight, Made
from flyteagents._kernel.kernel import Kernel, log
from flyteagents._kernel.keys import earlier_attempts
from flyteagents._kernel.tasks import as_attempt
from flyteagents._status import Phase, Status
from flyteagents._task import Task


class OtherFlights(Protocol):
    """What is known here of the earlier attempts' own flights."""

    def under_way(self, key: str) -> Flight | None: ...

    def just_named(self, key: str, task: Task[Any]) -> Made | None: ...


async def settle(kernel: Kernel, flight: Flight, others: OtherFlights) -> Made | None:
    """The job that the flight's attempt takes over, the oldest first; None where there is none.

    Raises VendorError when it cannot be known yet."""
    served, task = flight.served, flight.task
    attempt = task.identity.attempt
    for number in earlier_attempts(task.output_prefix, attempt, flight.generation):
        earlier = as_attempt(task, kernel.settings.cluster, number)
        named = others.just_named(earlier.key.hex, task)
        if named is not None and not dying(kernel, served, named.job):
            # Taken over unseen, and GetTask sorts it out: where every answer of the vendor's
            # outlasts the caller, asking again would burn all attempts.
            return replace(named, adopted=True)
        job = await _job_of(flight, earlier, number, others)
        if job is None or dying(kernel, served, job):
            continue
        status = await _status_of(kernel, flight, earlier, job, number)
        if status is None or not history(status, task.timeout):
            log.info("%s: attempt takes over the job of attempt %d", served.task_type, number)
            return Made(job, number, adopted=True)
    return None


async def _job_of(
    flight: Flight, earlier: Task[Any], number: int, others: OtherFlights
) -> Job | None:
    """The earlier attempt's job, None where it has none that does the same work."""
    if flight.served.idempotency == "vendor":
        # To look up is to create: what comes back is the job that is there, or a new one that a
        # submit which is still on its way cannot double.
        look = flight.call("create", earlier)
    else:
        flying = others.under_way(earlier.key.hex)
        if flying and not await wait_within(flying.work, flight.budget.left):
            raise Throttled(f"attempt {number} is still being submitted")
        look = flight.call("find", earlier)
    try:
        job: Job | None = await ask_patiently(look)
    except JobConflict:
        return None
    return job


async def _status_of(
    kernel: Kernel, flight: Flight, earlier: Task[Any], job: Job, number: int
) -> Status | None:
    """How the earlier attempt's job is doing; None where it was just named and is not visible."""
    try:
        status: Status = await ask_patiently(flight.call("get", earlier, job))
    except JobNotFound:
        return None
    except VendorError:
        raise
    except Exception as error:  # noqa: BLE001 # the agent's own code
        # Whatever is wrong with the earlier job, this attempt is not to blame.
        text = kernel.tell(flight.served, "get", error)
        raise Unavailable(f"attempt {number} is not settled: {text}") from None
    return status


def history(status: Status, timeout: timedelta | None) -> bool:
    """Whether a job is over and done with: failed, stopped, being stopped, or running for
    longer than the task's timeout, which is why Flyte began the next attempt."""
    if status.cancelling or status.phase in (Phase.FAILED, Phase.RETRYABLE_FAILED, Phase.ABORTED):
        return True
    if status.phase is Phase.SUCCEEDED or timeout is None or status.started is None:
        return False
    return datetime.now(timezone.utc) - status.started > timeout
