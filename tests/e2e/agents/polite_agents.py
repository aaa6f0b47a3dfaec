"""An agent for the test kit's job service, with the vendor's own handle."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from flyteagents import Agent, Call, Endpoint, Job, Name, Phase, Settings, Status, Task, hookimpl

API = 1
PHASES = {
    "PENDING": Phase.INITIALIZING,
    "RUNNING": Phase.RUNNING,
    "CANCELING": Phase.RUNNING,
    "DONE": Phase.SUCCEEDED,
    "FAILED": Phase.FAILED,
    "CANCELED": Phase.ABORTED,
}


class PoliteSettings(Settings):
    url: str


class PoliteConfig(BaseModel):
    script: str


class PoliteJob(Job):
    id: Name


class PoliteState(BaseModel):
    state: str
    error: str | None = None


class PoliteAgent(Agent[PoliteSettings, PoliteConfig, PoliteJob]):
    task_type = "polite"
    idempotency = "vendor"

    async def endpoint(self, of: object, call: Call) -> Endpoint:
        return Endpoint(self.settings.url)

    async def create(self, task: Task[PoliteConfig], call: Call) -> PoliteJob:
        return await call.http.post(
            "/jobs",
            into=PoliteJob,
            json={"script": task.config.script},
            params={"token": "canary"},
            headers={"Idempotency-Key": task.key.hex},
        )

    async def get(self, job: PoliteJob, call: Call) -> Status:
        reply = await call.http.get(f"/jobs/{job.id}", into=PoliteState)
        return Status(PHASES.get(reply.state), reply.error, cancelling=reply.state == "CANCELING")

    async def cancel(self, job: PoliteJob, call: Call) -> None:
        await call.http.post(f"/jobs/{job.id}/cancel")


@hookimpl
def register_agents() -> Sequence[type[PoliteAgent]]:
    return [PoliteAgent]
