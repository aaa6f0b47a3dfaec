"""Earlier attempts, settled before a new job is asked for: the job of one of them may be there,
or on its way from another replica, and nobody else will ever ask for it.

Flyte comes back 0.1 s after a CreateTask that failed, with the next attempt, and never cancels the
job of the last one, whose name it was not told
(flyteplugins .../internal/webapi/launcher.go:17-20).
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol

from flyteagents._agent import Agent
from flyteagents._errors import JobConflict, JobNotFound, Throttled, Unavailable, VendorError
from flyteagents._job import Job
from flyteagents._kernel.absence import FOR_EVER, IN_VAIN, Absence, absent
from flyteagents._kernel.call import KernelCall, ask, ask_patiently
from flyteagents._kernel.cancel import STEP_LIMIT, Cancelling, dying
from flyteagents._kernel.detached import wait_within
from flyteagents._kernel.ends import seconds_of
from flyteagents._kernel.envelope import new_envelope
from flyteagents._kernel.flight import Flight, Made, Stage
from flyteagents._kernel.kernel import Kernel, log
from flyteagents._kernel.keys import earlier_attempts
from flyteagents._kernel.lost import stop_lost
from flyteagents._kernel.open_job import OpenJob
from flyteagents._kernel.tasks import as_attempt
from flyteagents._status import Phase, Status
from flyteagents._task import Task
from flyteagents._vendor.budget import Budget

JOINED = 10.0
"""Seconds for which the look-ups of an earlier attempt's flight are waited for: with what is left
of its own time and what a next attempt has, a slow vendor has answered."""


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
    left = _unsettled(kernel, flight)
    try:
        if not _begins_with_named(left, others):
            for each in reversed(left):
                await each.lands(others)
            _begins_with_named(left, others)

        while left:
            each = left[0]
            made = await each.job(cancelling)
            others.was_settled(each.key)
            if made is not None:
                task_type = flight.served.task_type
                log.info("%s: attempt takes over the job of attempt %d", task_type, made.wrote)
                return made
            if each.is_over and each.number == flight.settled:
                flight.settled += 1
                kernel.soft.settled.put(flight.key, flight.settled)
            del left[0]
    except VendorError:
        if flight.last_attempt:
            # Also those that were not reached: nobody will look at them later.
            for each in left:
                each.abandon(cancelling)
        raise
    return None


def _unsettled(kernel: Kernel, flight: Flight) -> list[_Earlier]:
    """The earlier attempts that are to be looked for, the oldest first: not those that an attempt
    after them has seen to their end. With all of them, each attempt would take longer than the one
    before, and under a slow vendor none would get through."""
    task, known = flight.task, kernel.soft.settled
    numbers = earlier_attempts(task.output_prefix, task.identity.attempt, flight.generation)
    earlier: list[_Earlier] = []
    # This attempt may have been asked for before.
    flight.settled = max(numbers.start, min(known.get(flight.key) or 0, numbers.stop))
    for number in reversed(numbers):
        if number < flight.settled:
            break
        each = _Earlier(kernel, flight, as_attempt(task, kernel.settings.cluster, number), number)
        earlier.insert(0, each)
        # Some of it is what callers have sent: no attempt can speak of those after it.
        flight.settled = max(flight.settled, min(known.get(each.key) or 0, number))
    return earlier


def _begins_with_named(left: list[_Earlier], others: OtherFlights) -> bool:
    """Whether a flight has made a job a moment ago; then without the attempts before its own.

    It stands for them, since it has settled them. To ask for theirs first would take longer than
    there is where every answer is late."""
    for place in reversed(range(len(left))):
        if left[place].was_just_named(others):
            del left[:place]
            return True
    return False


class _Earlier:
    """One earlier attempt, seen from a later one's flight."""

    def __init__(self, kernel: Kernel, flight: Flight, task: Task[Any], number: int) -> None:
        self._kernel = kernel
        self._flight = flight
        self._served = flight.served
        self._task = task
        self.key = task.key.hex
        self.number = number
        self._found: Job | None = None
        self._named: Made | None = None

    @property
    def is_over(self) -> bool:
        """Whether it will never have a job that can be taken over, so that no later attempt has to
        look for it."""
        absence = self._kernel.soft.absences.get(self.key)
        return absence is not None and absence.lasts

    def was_just_named(self, others: OtherFlights) -> bool:
        """Whether the vendor has named its job a moment ago, too late for its own caller."""
        self._named = others.just_named(self.key, self._flight.task)
        return self._named is not None

    async def lands(self, others: OtherFlights) -> None:
        """Wait for its flight, where that is under way and a look-up would not find its job: there
        would be two. Raises Throttled."""
        flying = others.under_way(self.key)
        # What the vendor dedupes may be asked for twice.
        if flying is None or self._served.idempotency == "vendor":
            return
        # One that only looks, and for so long, hangs: to wait for it too would cost attempts.
        hangs = flying.stage is not Stage.SUBMITTING and flying.age > JOINED
        if not hangs and not await flying.join(self._flight.budget):
            raise Throttled(f"attempt {self.number} is still being submitted")

    async def job(self, cancelling: Cancelling) -> Made | None:
        """Its job, where that is to be taken over. What may not be, is seen to stop."""
        named = self._named
        job = self._found = named.job if named else await self._look_up()
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
            if status.phase in IN_VAIN:
                self._kernel.soft.absences.put(self.key, FOR_EVER)
            if self._chooses and status.cancelling:
                await self._stop(job, cancelling)
            return None
        if not stopping and await self._adopts(job):
            # Its flight may itself have taken over an earlier one, which writes elsewhere.
            return named or Made(job, self.key, self.number)
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

    async def _look_up(self) -> Job | None:
        """Its job, None where it has none that does the same work."""
        absences = self._kernel.soft.absences
        absence = absences.get(self.key)
        if absence is not None and not absence.is_due:
            return None
        # To look up is to create, where the vendor dedupes: what comes back is the job that is
        # there, or a new one that a submit which is still on its way cannot double.
        operation = "create" if self._served.idempotency == "vendor" else "find"
        look = absent()
        try:
            job: Job | None = await ask_patiently(self._flight.call(operation, self._task))
        except JobConflict:
            absences.put(self.key, FOR_EVER)
            return None
        if job is None:
            absences.put(self.key, Absence(absence.first, look.last) if absence else look)
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
            if self._flight.budget.left > 0:
                return await ask_patiently(call, first=first)
            # It only reads, so it goes on without a caller: where every answer is late, the next
            # attempt finds the job just named.
            reading = Budget(time.monotonic() + STEP_LIMIT, retries=False)
            return await ask(replace(call, budget=reading), first=first)
        except (VendorError, JobNotFound):
            raise
        except Exception as error:  # noqa: BLE001 # the agent's own code
            text = self._kernel.tell(self._served, "get", error)
            # As it was raised, it would be the verdict on this attempt's own create.
            raise Unavailable(f"attempt {self.number} is not settled: {text}") from None

    def abandon(self, cancelling: Cancelling) -> None:
        """No attempt can follow this one, so nobody will ever ask about its job: stop it."""
        if self._found is not None:
            cancelling.detach_once(self._opened(self._found))
        else:
            lost = stop_lost(self._kernel, cancelling, self._flight, self._task)
            self._kernel.detached.start(lost)

    def _opened(self, job: Job) -> OpenJob:
        task = self._task
        envelope = new_envelope(task.identity, task.key.hex, task.type, wrote=self.number)
        return OpenJob(self._served, job, envelope, task.output_prefix, self._flight.connection)

    async def _stop(self, job: Job, cancelling: Cancelling) -> None:
        """See the job stop that cannot be taken over. Raises Throttled while it runs."""
        stopping = cancelling.detach_once(self._opened(job))
        ended = await wait_within(stopping, self._flight.budget.left)
        if not ended or stopping.cancelled() or stopping.exception():
            raise Throttled(f"the job of attempt {self.number} is still being stopped")


def history(status: Status, timeout: timedelta | None) -> bool:
    """Whether a job is over and done with: failed, stopped, being stopped, or running for
    longer than the task's timeout, which is why Flyte began the next attempt."""
    if status.cancelling or status.phase in IN_VAIN:
        return True
    started = seconds_of(status.started)
    if status.phase is Phase.SUCCEEDED or timeout is None or started is None:
        return False
    return time.time() - started > timeout.total_seconds()
