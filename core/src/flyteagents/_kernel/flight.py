"""One CreateTask on its way, whoever waits for it."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Any

from flyteagents._errors import Throttled, VendorError
from flyteagents._job import Job
from flyteagents._kernel.host import AgentHost
from flyteagents._kernel.requests import Answer, Connection, Deadline
from flyteagents._task import Task
from flyteagents._vendor.budget import Budget


@dataclass(frozen=True)
class Made:
    """A job, the number of the attempt it was made for, and whether that was an earlier one."""

    job: Job
    wrote: int
    adopted: bool = False


@dataclass
class Flight:
    """Repeated calls for one key share one flight; it goes on when all of them have left.

    admitted: it has a place among the creates that the agent works on.
    submitting: the attempt's own job is being asked for, earlier attempts are settled.
    unconfirmed: a caller was told a handle before the vendor had answered.
    """

    host: AgentHost
    task: Task[Any]
    connection: Connection
    generation: int
    budget: Budget
    waiting: int = 0
    admitted: bool = False
    submitting: bool = False
    delivered: bool = False
    unconfirmed: bool = False
    work: asyncio.Task[Made | Answer] = field(init=False)

    def join(self, deadline: Deadline) -> None:
        self.waiting += 1
        self.budget.until = max(self.budget.until, deadline.until)
        self.budget.closed = False

    def leave(self) -> None:
        """A caller has gone, answered or not. After the last one nothing new is sent."""
        self.waiting -= 1
        if self.waiting == 0:
            self.budget.closed = True

    @property
    def left(self) -> float:
        return 0.0 if self.budget.closed else max(self.budget.until - time.monotonic(), 0.0)

    @property
    def last_attempt(self) -> bool:
        """Whether no attempt can follow. Only Flyte 2 tells how many there are."""
        return self.generation == 2 and self.task.identity.attempt >= self.task.retries


async def pause(error: VendorError, tries: int, left: float) -> None:
    """Wait before trying again; raises the error when that would take too long."""
    asked = error.retry_after if isinstance(error, Throttled) else None
    seconds = asked or random.uniform(0.05, min(0.1 * 2**tries, 2.0))  # noqa: S311
    if seconds >= left:
        raise error
    await asyncio.sleep(seconds)
