"""Agents that need no vendor: one whose jobs run nowhere, one with a bug, and one that is
synchronous."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import BaseModel

from flyteagents import (
    Agent,
    Call,
    Job,
    Name,
    Phase,
    Settings,
    Status,
    SyncAgent,
    Task,
    hookimpl,
)

API = 1


class ChaosConfig(BaseModel):
    script: str


class ChaosJob(Job):
    id: Name


class IdleAgent(Agent[Settings, ChaosConfig, ChaosJob]):
    """Its jobs run until they are cancelled, and nowhere."""

    task_type = "chaos_idle"
    idempotency = "vendor"
    cancelled: ClassVar[set[str]] = set()

    async def create(self, task: Task[ChaosConfig], call: Call) -> ChaosJob:
        return ChaosJob(id=task.key.hex)

    async def get(self, job: ChaosJob, call: Call) -> Status:
        return Status(Phase.ABORTED if job.id in self.cancelled else Phase.RUNNING)

    async def cancel(self, job: ChaosJob, call: Call) -> None:
        self.cancelled.add(job.id)


class RaisingAgent(IdleAgent):
    task_type = "chaos_raising"

    async def get(self, job: ChaosJob, call: Call) -> Status:
        raise ZeroDivisionError("a bug in every poll")


class LengthAgent(SyncAgent[Settings, ChaosConfig]):
    task_type = "chaos_sync"

    async def run(self, task: Task[ChaosConfig], call: Call) -> Mapping[str, object]:
        return {"o0": len(task.config.script)}


@hookimpl
def register_agents() -> Sequence[type]:
    return [IdleAgent, RaisingAgent, LengthAgent]
