"""One CreateTask on its way, whoever waits for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from flyteagents._errors import Throttled, VendorError
from flyteagents._job import Job
from flyteagents._kernel.detached import wait_within
from flyteagents._kernel.host import AgentHost, KernelCall
from flyteagents._kernel.requests import Answer, Connection, Deadline
from flyteagents._kernel.runtime import Runtime
from flyteagents._task import Task
from flyteagents._vendor.budget import Budget, backoff


@dataclass(frozen=True)
class Made:
    """A job, the number of the attempt it was made for, and whether that was an earlier one."""

    job: Job
    wrote: int
    adopted: bool = False


@dataclass(frozen=True)
class Untold:
    """What a flight made when its callers had gone; `at` is by `time.monotonic`."""

    made: Made
    fingerprint: str
    at: float


@dataclass
class Flight:
    """Repeated calls for one key share one flight; it goes on when all of them have left.

    waits_for: what an answer that comes too late is said to have waited for.
    submitting: the attempt's own job is being asked for, earlier attempts are settled.
    told: a caller got what the flight made, or it was seen to that nobody needs it.
    unconfirmed: a caller was told a handle before the vendor had answered.
    """

    runtime: Runtime
    host: AgentHost
    task: Task[Any]
    connection: Connection
    generation: int
    budget: Budget
    waits_for: str = ""
    waiting: int = 0
    submitting: bool = False
    told: bool = False
    unconfirmed: bool = False
    work: asyncio.Task[Made | Answer] = field(init=False)

    async def wait(self, deadline: Deadline) -> bool:
        """Wait for the flight with the others that do. Whether it has landed in time."""
        self.waiting += 1
        self.budget.until = max(self.budget.until, deadline.until)
        self.budget.closed = False
        try:
            landed = await wait_within(self.work, deadline.left)
            if landed and self.work.exception() is None:
                self.told = True
            return landed
        finally:
            self.waiting -= 1
            # After the last caller has gone, answered or not, nothing new is sent.
            self.budget.closed = self.waiting == 0

    @property
    def last_attempt(self) -> bool:
        """Whether no attempt can follow. Only Flyte 2 tells how many there are."""
        return self.generation == 2 and self.task.identity.attempt >= self.task.retries

    async def operate(self, operation: str, task: Task[Any], of: Any = None) -> Any:
        """Call the agent's method of that name for `task`, or for its job `of`."""
        of = task if of is None else of
        call = KernelCall(
            self.host, operation, task.identity, self.budget, of, task.output_prefix,
            task.declared, self.connection,
        )  # fmt: skip
        method = getattr(self.host.agent, operation)
        return await self.runtime.operate(self.host, operation, method, of, call)

    async def patiently(self, operation: str, task: Task[Any], of: Any = None) -> Any:
        """What is safe to repeat is repeated while the vendor fails and there is time."""
        tries = 0
        while True:
            try:
                return await self.operate(operation, task, of)
            except VendorError as error:
                asked = error.retry_after if isinstance(error, Throttled) else None
                seconds = backoff(tries, asked)
                if seconds >= self.budget.left:
                    raise
            await asyncio.sleep(seconds)
            tries += 1
