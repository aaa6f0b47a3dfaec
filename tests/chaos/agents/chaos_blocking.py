"""A plugin that does what none may: it blocks the event loop."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pydantic import BaseModel

from flyteagents import Agent, Call, Job, Name, Phase, Settings, Status, Task, hookimpl

API = 1


class BlockingConfig(BaseModel):
    script: str


class BlockingJob(Job):
    id: Name


class BlockingAgent(Agent[Settings, BlockingConfig, BlockingJob]):
    task_type = "chaos_blocking"
    idempotency = "vendor"

    async def create(self, task: Task[BlockingConfig], call: Call) -> BlockingJob:
        return BlockingJob(id=task.key.hex)

    async def get(self, job: BlockingJob, call: Call) -> Status:
        time.sleep(1.0)  # noqa: ASYNC251 # the point of it
        return Status(Phase.RUNNING)

    async def cancel(self, job: BlockingJob, call: Call) -> None:
        return


class BystanderAgent(BlockingAgent):
    """Sorts before the culprit, and does nothing wrong."""

    task_type = "chaos_beside"

    async def get(self, job: BlockingJob, call: Call) -> Status:
        return Status(Phase.RUNNING)


@hookimpl
def register_agents() -> Sequence[type]:
    return [BystanderAgent, BlockingAgent]
