"""Earlier attempts, settled before a new job is asked for: the job of one of them may be there,
or on its way from another replica, and nobody else will ever ask for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from flyteagents._errors import JobConflict, JobNotFound, Throttled, Unavailable, VendorError
from flyteagents._kernel.cancel import dying
from flyteagents._kernel.detached import wait_within
from flyteagents._kernel.flight import Flight, Made, Untold
from flyteagents._kernel.keys import earlier_attempts
from flyteagents._kernel.runtime import log
from flyteagents._kernel.soft_state import Bounded
from flyteagents._kernel.tasks import as_attempt
from flyteagents._status import Phase, Status

FRESH = 30.0
"""Seconds for which a job that the vendor has named counts as running."""


async def settle(
    flight: Flight, flights: Mapping[str, Flight], untold: Bounded[Untold]
) -> Made | None:
    """The job that the flight's attempt takes over, the oldest first. `flights` are those on
    their way by key, `untold` those that landed when their caller had gone.

    Raises VendorError when it cannot be known yet."""
    host, task = flight.host, flight.task
    vendor = host.idempotency == "vendor"
    numbers = earlier_attempts(task.output_prefix, task.identity.attempt, flight.generation)
    for number in numbers:
        earlier = as_attempt(task, flight.runtime.settings.cluster, number)
        if made := _just_named(flight, untold.pop(earlier.key.hex)):
            return made
        flying = flights.get(earlier.key.hex)
        if not vendor and flying and not await wait_within(flying.work, flight.budget.left):
            raise Throttled(f"attempt {number} is still being submitted")
        try:
            job = await flight.patiently("create" if vendor else "find", earlier)
        except JobConflict:
            continue
        if job is None or dying(flight.runtime, host, job):
            continue
        try:
            status = await flight.patiently("get", earlier, job)
        except JobNotFound:
            status = None  # just named and not visible yet
        except VendorError:
            raise
        except Exception as error:  # noqa: BLE001 # the agent's own code
            # Whatever is wrong with the earlier job, this attempt is not to blame.
            text = flight.runtime.tell(host, "get", error)
            raise Unavailable(f"attempt {number} is not settled: {text}") from None
        if status is None or not history(status, task.timeout):
            log.info("%s: attempt takes over the job of attempt %d", host.task_type, number)
            return Made(job, number, adopted=True)
    return None


def _just_named(flight: Flight, untold: Untold | None) -> Made | None:
    """What the vendor has just named for an attempt that is over by now. It is taken over unseen,
    and GetTask sorts it out: where every answer outlasts the caller, asking again would burn all
    attempts."""
    if untold is None or time.monotonic() - untold.at > FRESH:
        return None
    gone = dying(flight.runtime, flight.host, untold.made.job)
    same = flight.task.fingerprint.matches(untold.fingerprint)
    return replace(untold.made, adopted=True) if same and not gone else None


def history(status: Status, timeout: timedelta | None) -> bool:
    """Whether a job is over and done with: failed, stopped, being stopped, or running for
    longer than the task's timeout, which is why Flyte began the next attempt."""
    if status.cancelling or status.phase in (Phase.FAILED, Phase.RETRYABLE_FAILED, Phase.ABORTED):
        return True
    if status.phase is Phase.SUCCEEDED or timeout is None or status.started is None:
        return False
    return datetime.now(timezone.utc) - status.started > timeout
