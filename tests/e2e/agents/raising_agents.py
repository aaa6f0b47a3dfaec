"""Agents that raise what the task tells them to, for walking the kernel's error table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from pydantic import BaseModel

import flyteagents
from flyteagents import Agent, Call, Job, Settings, Status, SyncAgent, Task, Throttled, hookimpl

API = 1


class RaisingConfig(BaseModel):
    """operation: where to raise; error: the name of what to raise."""

    operation: str
    error: str


class RaisingJob(Job):
    operation: str
    error: str


def fail(operation: str, of: RaisingConfig | RaisingJob) -> None:
    if operation == of.operation:
        if of.error == "Throttled":  # longer than its caller waits: it is not asked again
            raise Throttled(f"raised in {operation}", retry_after=60)
        kind = getattr(flyteagents, of.error, None) or KeyError
        raise kind(f"raised in {operation}")


class RaisingAgent(Agent[Settings, RaisingConfig, RaisingJob]):
    task_type = "raising"
    idempotency = "vendor"

    async def create(self, task: Task[RaisingConfig], call: Call) -> RaisingJob:
        fail("create", task.config)
        return RaisingJob(**task.config.model_dump())

    async def get(self, job: RaisingJob, call: Call) -> Status:
        if job.operation == "block":
            await call.blocking(time.sleep, 30)
        while job.operation == "catch":
            with suppress(BaseException):
                await asyncio.sleep(30)
        fail("get", job)
        return Status(flyteagents.Phase.RUNNING)

    async def cancel(self, job: RaisingJob, call: Call) -> None:
        fail("cancel", job)


class RaisingSyncAgent(SyncAgent[Settings, RaisingConfig]):
    task_type = "raising_sync"

    async def run(self, task: Task[RaisingConfig], call: Call) -> Mapping[str, object]:
        fail("run", task.config)
        return {}


@hookimpl
def register_agents() -> Sequence[type[Agent] | type[SyncAgent]]:  # type: ignore[type-arg]
    return [RaisingAgent, RaisingSyncAgent]
