"""Earlier attempts, settled before a new job is asked for: the job of one of them may be there,
or on its way from another replica, and nobody else will ever ask for it.

Flyte comes back 0.1 s after a CreateTask that failed, with the next attempt, and never cancels the
job of the last one, whose name it was not told
(flyteplugins .../internal/webapi/launcher.go:17-20).
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

from flyteagents._agent import Agent
from flyteagents._errors import JobConflict, JobNotFound, Throttled, Unavailable, VendorError
from flyteagents._job import Job
from flyteagents._kernel.call import KernelCall, ask_patiently
from flyteagents._kernel.cancel import Cancelling, dying
from flyteagents._kernel.detached import wait_within
from flyteagents._kernel.envelope import new_envelope
from flyteagents._kernel.flight import Flight, Made
from flyteagents._kernel.kernel import Kernel, log
from flyteagents._kernel.keys import attempt_number, earlier_attempts
from flyteagents._kernel.lost import stop_lost
from flyteagents._kernel.open_job import OpenJob
from flyteagents._kernel.tasks import as_attempt
from flyteagents._status import Phase, Status
from flyteagents._task import Task


class OtherFlights(Protocol):
    """What is known here of the earlier attempts' own flights."""

    def under_way(self, key: str) -> Flight | None: ...

    def just_named(self, key: str, task: Task[Any]) -> Made | None: ...

    def was_settled(self, key: str) -> None: ...


async def settle(
    kernel: Kernel, flight: Flight, others: OtherFlights, cancelling: Cancelling
) -> Made | None:
    """The job that the flight's attempt takes over, the oldest first; None where there is none.

    Raises VendorError when it cannot be known yet."""
    task = flight.task
    numbers = earlier_attempts(task.output_prefix, task.identity.attempt, flight.generation)
    if not numbers:
        return None
    tasks = [as_attempt(task, kernel.settings.cluster, number) for number in numbers]
    earlier = [_Earlier(kernel, flight, each) for each in tasks]
    # What a flight has just made stands for the attempts before its own: it has settled them. To
    # ask for theirs first would take longer than there is where every answer is late.
    for place in reversed(range(len(earlier))):
        if earlier[place].was_just_named(others):
            earlier = earlier[place:]
            break

    for place, each in enumerate(earlier):
        try:
            settled = await each.job(others, cancelling)
            others.was_settled(each.key)
        except VendorError:
            if flight.last_attempt:
                # Also those that were not reached: nobody will look at them later.
                for left in earlier[place:]:
                    left.abandon(cancelling)
            raise
        if settled is not None:
            task_type = flight.served.task_type
            log.info("%s: attempt takes over the job of attempt %d", task_type, settled.wrote)
            return settled
    return None


class _Earlier:
    """One earlier attempt, seen from a later one's flight."""

    def __init__(self, kernel: Kernel, flight: Flight, task: Task[Any]) -> None:
        self._kernel = kernel
        self._flight = flight
        self._served = flight.served
        self._task = task
        self.key = task.key.hex
        self._number = attempt_number(task.output_prefix)
        self._found: Job | None = None
        self._named: Made | None = None

    def was_just_named(self, others: OtherFlights) -> bool:
        """Whether the vendor has named its job a moment ago, too late for its own caller."""
        self._named = others.just_named(self.key, self._flight.task)
        return self._named is not None

    async def job(self, others: OtherFlights, cancelling: Cancelling) -> Made | None:
        """Its job, where that is to be taken over. What may not be, is seen to stop."""
        named = self._named
        job = self._found = named.job if named else await self._look_up(others)
        if job is None:
            return None
        stopping = dying(self._kernel, self._served, job)
        if stopping and not self._chooses:
            return None
        status = None
        if named is None:
            # One that was just named is taken over unseen, and GetTask sorts it out: where every
            # answer of the vendor's outlasts the caller, asking again would burn all attempts.
            status = await self._status(job)
        if status is not None and history(status, self._task.timeout):
            if self._chooses and status.cancelling:
                await self._stop(job, cancelling)
            return None
        if not stopping and await self._adopts(job):
            # Its flight may itself have taken over an earlier one, which writes elsewhere.
            return named or Made(job, self.key, self._number)
        # One that has succeeded is left alone: some vendors' cancel does more than stop.
        if status is None or status.phase is not Phase.SUCCEEDED:
            await self._stop(job, cancelling)
        return None

    @property
    def _chooses(self) -> bool:
        """Whether the agent says itself what may be taken over."""
        return type(self._served.agent).adopts is not Agent.adopts

    async def _adopts(self, job: Job) -> bool:
        if not self._chooses:
            return True
        return bool(await self._ask(self._flight.call("adopts", self._task, job), self._task))

    async def _look_up(self, others: OtherFlights) -> Job | None:
        """Its job, None where it has none that does the same work."""
        if self._served.idempotency == "vendor":
            # To look up is to create: what comes back is the job that is there, or a new one that
            # a submit which is still on its way cannot double.
            look = self._flight.call("create", self._task)
        else:
            # A look-up while the submit is on its way finds nothing, and there would be two jobs.
            flying = others.under_way(self.key)
            if flying and not await wait_within(flying.work, self._flight.budget.left):
                raise Throttled(f"attempt {self._number} is still being submitted")
            look = self._flight.call("find", self._task)
        try:
            job: Job | None = await ask_patiently(look)
        except JobConflict:
            return None
        return job

    async def _status(self, job: Job) -> Status | None:
        """How its job is doing; None where that was just named and is not visible."""
        try:
            status: Status = await self._ask(self._flight.call("get", self._task, job))
        except JobNotFound:
            return None
        return status

    async def _ask(self, call: KernelCall, first: object = None) -> Any:
        """Whatever is wrong with the earlier job, this attempt is not to blame."""
        try:
            return await ask_patiently(call, first=first)
        except (VendorError, JobNotFound):
            raise
        except Exception as error:  # noqa: BLE001 # the agent's own code
            text = self._kernel.tell(self._served, "get", error)
            # As it was raised, it would be the verdict on this attempt's own create.
            raise Unavailable(f"attempt {self._number} is not settled: {text}") from None

    def abandon(self, cancelling: Cancelling) -> None:
        """No attempt can follow this one, so nobody will ever ask about its job: stop it."""
        if self._found is not None:
            cancelling.detach(self._opened(self._found))
        else:
            lost = stop_lost(self._kernel, cancelling, self._flight, self._task)
            self._kernel.detached.start(lost)

    def _opened(self, job: Job) -> OpenJob:
        task = self._task
        envelope = new_envelope(task.identity, task.key.hex, task.type, wrote=self._number)
        return OpenJob(self._served, job, envelope, task.output_prefix, self._flight.connection)

    async def _stop(self, job: Job, cancelling: Cancelling) -> None:
        """See the job stop that cannot be taken over. Raises Throttled while it runs."""
        stopping = cancelling.detach(self._opened(job))
        ended = await wait_within(stopping, self._flight.budget.left)
        if not ended or stopping.cancelled() or stopping.exception():
            raise Throttled(f"the job of attempt {self._number} is still being stopped")


def history(status: Status, timeout: timedelta | None) -> bool:
    """Whether a job is over and done with: failed, stopped, being stopped, or running for
    longer than the task's timeout, which is why Flyte began the next attempt."""
    if status.cancelling or status.phase in (Phase.FAILED, Phase.RETRYABLE_FAILED, Phase.ABORTED):
        return True
    if status.phase is Phase.SUCCEEDED or timeout is None or status.started is None:
        return False
    return datetime.now(timezone.utc) - status.started > timeout
