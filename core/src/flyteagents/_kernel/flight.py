"""One CreateTask on its way to its vendor, whoever waits for it.

A flight outlives its callers: when all have left, what is on the wire ends by itself, and what it
made must not be forgotten. Only this module writes what became of a flight; `Flights` flies them,
`settle` and `Creating` read them and say what happened.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from flyteagents._job import Job
from flyteagents._kernel.answers import Answer
from flyteagents._kernel.call import CALL_LIMIT, KernelCall
from flyteagents._kernel.deadline import Deadline
from flyteagents._kernel.detached import wait_within
from flyteagents._kernel.open_job import YOUNG
from flyteagents._kernel.requests import CreateRequest
from flyteagents._kernel.served import ServedAgent
from flyteagents._redact import redact
from flyteagents._task import Task
from flyteagents._vendor.budget import Budget

OVERDUE = CALL_LIMIT + 10.0
"""Seconds after which a call of the agent does not end any more."""
SKEW = 10.0
"""Seconds that two replicas' clocks may be apart: one submits on, and the other one cancels."""
SUBMITS = YOUNG - SKEW - CALL_LIMIT
"""Seconds for which an attempt may be submitted. The last submit must have landed while cancels and
polls still look for its job: another replica's too, which nobody here hears of."""


@dataclass(frozen=True)
class Made:
    """A job, and the key and the number of the attempt it was made for."""

    job: Job
    key: str
    wrote: int


class Stage(Enum):
    """How far a flight is; the values say what an answer that comes too late has waited for."""

    QUEUED = "{limit} creates are under way; try later"
    SETTLING = "an earlier attempt's job is not settled yet"
    SUBMITTING = "the vendor did not answer in time"


class Flight:
    """Repeated calls for one key share one flight.

    work: what it comes to: the job, or a synchronous agent's answer.
    unconfirmed: a caller was told a handle before the vendor had answered.
    wanted: nobody has asked to cancel the job meanwhile.
    deleted: a DeleteTask has come, and no attempt that has looked for the job since.
    abandoned: whoever would send a next attempt is gone.
    settled: the number of the first earlier attempt that a next one has to look for: those before
    it never have a job that can be taken over.
    """

    work: asyncio.Task[Made | Answer]

    def __init__(
        self, served: ServedAgent, task: Task[Any], request: CreateRequest, deadline: Deadline
    ) -> None:
        self.served = served
        self.task = task
        self.key = task.key.hex
        self.connection = request.connection
        self.generation = request.generation
        # What the vendor dedupes may be sent again whatever became of the first request.
        dedupes = served.idempotency == "vendor"
        self.budget = Budget(deadline.until, "any" if dedupes else "unsent")
        self.stage = Stage.QUEUED
        self.unconfirmed = False
        self.wanted = True
        self.deleted = False
        self.abandoned = False
        self._inside = False
        self.settled = 0
        self._began = self._asked = time.monotonic()
        self.ends_after(0.0)
        self._waiting = 0
        self._heard = False

    def ends_after(self, age: float) -> None:
        """When submitting is over, for an attempt that was created `age` seconds ago."""
        self._created = self._began - max(age, 0.0)
        self._ends = self._created + SUBMITS

    @property
    def waits_for(self) -> str:
        """For the user, where the answer comes too late."""
        text = self.stage.value.format(limit=self.served.creates.limit)
        if self.stage is not Stage.SETTLING:
            text = f"{self.served.task_type}: {text}"
        trouble = redact(self.budget.trouble)
        return f"{text}: {trouble}" if trouble else text

    @property
    def last_attempt(self) -> bool:
        """Whether no attempt can follow. Only Flyte 2 tells how many there are: in Flyte 1
        `with_overrides` beats the template, and system failures raise the attempt's number."""
        last = self.generation == 2 and self.task.identity.attempt >= self.task.retries
        return last or self.abandoned

    async def wait(self, deadline: Deadline) -> bool:
        """Wait for the flight with the others that do. Whether it has landed in time."""
        self._waiting += 1
        # Flyte repeats a CreateTask for the same attempt: the flight has the time of whoever waits
        # longest, and may send again though an earlier caller's leaving had closed it.
        self.budget.until = max(self.budget.until, deadline.until)
        self.budget.closed = False
        try:
            landed = await wait_within(self.work, deadline.left)
            self._heard = self._heard or landed
            return landed
        finally:
            self._waiting -= 1
            self._may_close()

    def _may_close(self) -> None:
        # After the last caller has gone, answered or not, nothing new is sent but by `goes_on`.
        self.budget.closed = self._waiting == 0 and not self.goes_on

    async def join(self, budget: Budget) -> bool:
        """A later attempt waits for it too, and lends it the time of its own callers: what one
        attempt has begun, the next one need not begin again. Whether it has landed in time."""
        if self.wanted and not self.abandoned:
            self.budget.until = max(self.budget.until, budget.until)
            self.budget.closed = False
        try:
            return await wait_within(self.work, budget.left)
        finally:
            self._may_close()

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    @property
    def goes_on(self) -> bool:
        """Whether the submit is repeated without a caller: where it was answered unconfirmed and
        the vendor dedupes its key, as long as the job is young and wanted."""
        if not (self.unconfirmed and self.wanted):
            return False
        return self.served.idempotency == "vendor" and time.monotonic() < self._ends

    async def enter(self, patience: float, others: Mapping[str, Flight]) -> bool:
        """Take a place among the agent's creates, within `patience` seconds. False when none of
        `others`, the oldest first, gave one up."""
        creates = self.served.creates
        if not creates.try_enter():
            for flight in others.values():
                if flight.age < OVERDUE:
                    break
                if flight.served is self.served:
                    flight.may_be_left_behind()
            if not await creates.enter(patience):
                return False
        self._inside = True
        return True

    def leave(self) -> None:
        if self._inside:  # and was not left behind
            self._inside = False
            self.served.creates.leave()

    def may_be_left_behind(self) -> None:
        """Give the place up where it is kept for a call that does not end any more. The flight is
        under way all the same: repeated calls and later attempts find it, and so its job."""
        # Until the budget is over a failed call is followed by another one; `settle`'s later, too.
        overdue = time.monotonic() > max(self._asked, self.budget.until) + OVERDUE
        if self._inside and overdue and self.served.left_behind.add("create", self.work):
            self.leave()

    @property
    def is_asked_about(self) -> bool:
        """Whether somebody was told its handle, and looks for its job still: polls and cancels do
        so as long as it is young."""
        if not self.unconfirmed or self.abandoned:
            return False
        return self.wanted or time.monotonic() < self._created + YOUNG

    def flies_on(self, work: asyncio.Task[Made | Answer]) -> None:
        """It goes on as `work`, without a caller, for as long as its job is young."""
        self.work = work
        self.budget = Budget(self._ends)
        # What it comes to now is a second landing, of which nobody has heard.
        self._heard = False

    @property
    def is_waited_for(self) -> bool:
        return self._waiting > 0

    def is_unheard(self) -> bool:
        """Whether it has landed and no caller will hear of it. True once: what follows from that
        follows once."""
        if self._waiting or self._heard:
            return False
        self._heard = True
        return True

    def call(self, operation: str, task: Task[Any], of: Any = None) -> KernelCall:
        """A call of the agent for `task`, this attempt's or an earlier one's, or for its job; to be
        made now."""
        self._asked = time.monotonic()
        return KernelCall(
            self.served,
            operation,
            task.identity,
            self.budget,
            of=task if of is None else of,
            task_type=task.type,
            # Not the flight's: by its own key the vendor finds an earlier attempt's job, and by
            # this attempt's it would make another.
            key=task.key,
            fingerprint=task.fingerprint,
            settling=task is not self.task,
            output_prefix=task.output_prefix,
            declared=task.declared,
            connection=self.connection,
        )
