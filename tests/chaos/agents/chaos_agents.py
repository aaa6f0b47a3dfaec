"""Agents for the attacks: one for each kind of idempotency over the test kit's job service, and
some that need no vendor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import ClassVar

from pydantic import BaseModel

from flyteagents import (
    Agent,
    Call,
    Endpoint,
    Idempotency,
    Job,
    JobConflict,
    Name,
    Phase,
    Settings,
    Status,
    SyncAgent,
    Task,
    hookimpl,
)

API = 1
PHASES = {
    "PENDING": Phase.INITIALIZING,
    "RUNNING": Phase.RUNNING,
    "CANCELING": Phase.RUNNING,
    "DONE": Phase.SUCCEEDED,
    "FAILED": Phase.FAILED,
    "CANCELED": Phase.ABORTED,
}


class ChaosSettings(Settings):
    url: str = "http://127.0.0.1:1"
    lookup_url: str = "http://127.0.0.1:1"
    slow_url: str = "http://127.0.0.1:1"
    password: str = ""


class ChaosConfig(BaseModel):
    script: str


class ChaosJob(Job):
    id: Name


class State(BaseModel):
    id: Name
    state: str
    error: str | None = None
    started: float | None = None
    fingerprint: str = ""


class Jobs(BaseModel):
    jobs: list[State]


class HttpAgent(Agent[ChaosSettings, ChaosConfig, ChaosJob]):
    """What the agents of the job service share; the service names the job and knows our key."""

    task_type = "chaos_keyed"
    idempotency: ClassVar[Idempotency] = "vendor"

    def url(self) -> str:
        return self.settings.url

    async def endpoint(self, of: object, call: Call) -> Endpoint:
        password = self.settings.password
        return Endpoint(
            self.url(),
            bearer=await call.find_secret("chaos_token"),
            headers={"X-Password": password} if password else {},
        )

    def body(self, task: Task[ChaosConfig]) -> Mapping[str, object]:
        return {"script": task.config.script, "fingerprint": str(task.fingerprint)}

    async def create(self, task: Task[ChaosConfig], call: Call) -> ChaosJob:
        headers = {"Idempotency-Key": task.key.hex}
        reply = await call.http.post("/jobs", into=State, json=self.body(task), headers=headers)
        return ChaosJob(id=reply.id)

    async def get(self, job: ChaosJob, call: Call) -> Status:
        reply = await call.http.get(f"/jobs/{job.id}", into=State)
        started = reply.started and datetime.fromtimestamp(reply.started, timezone.utc)
        return Status(
            PHASES.get(reply.state),
            reply.error,
            started=started or None,
            cancelling=reply.state == "CANCELING",
        )

    async def cancel(self, job: ChaosJob, call: Call) -> None:
        await call.http.post(f"/jobs/{job.id}/cancel")


class NamedAgent(HttpAgent):
    """We name the job."""

    task_type = "chaos_named"

    def handle(self, task: Task[ChaosConfig]) -> ChaosJob:
        return ChaosJob(id=task.key.hex)

    async def create(self, task: Task[ChaosConfig], call: Call) -> ChaosJob:
        path = f"/jobs/{task.key.hex}"
        reply = await call.http.put(path, json=self.body(task), accept=[409])
        if reply.status == 409:
            there = reply.json()["job"]
            if not task.fingerprint.matches(there["fingerprint"]):
                raise JobConflict("the job does other work")
        return ChaosJob(id=task.key.hex)


class TaggedAgent(HttpAgent):
    """The service can be asked for our tag, and takes a second job with it."""

    task_type = "chaos_tagged"
    idempotency = "lookup"

    def url(self) -> str:
        return self.settings.lookup_url

    async def create(self, task: Task[ChaosConfig], call: Call) -> ChaosJob:
        body = {**self.body(task), "tag": task.key.hex}
        reply = await call.http.post("/jobs", into=State, json=body)
        return ChaosJob(id=reply.id)

    async def find(self, task: Task[ChaosConfig], call: Call) -> ChaosJob | None:
        found = await call.http.get("/jobs", into=Jobs, params={"tag": task.key.hex})
        return ChaosJob(id=found.jobs[0].id) if found.jobs else None


class HopefulAgent(HttpAgent):
    """The service knows nothing of keys."""

    task_type = "chaos_hopeful"
    idempotency = "none"

    async def create(self, task: Task[ChaosConfig], call: Call) -> ChaosJob:
        reply = await call.http.post("/jobs", into=State, json=self.body(task))
        return ChaosJob(id=reply.id)


class SlowAgent(HttpAgent):
    """As the first, at another vendor."""

    task_type = "chaos_slow"

    def url(self) -> str:
        return self.settings.slow_url


class IdleAgent(Agent[ChaosSettings, ChaosConfig, ChaosJob]):
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


class LengthAgent(SyncAgent[ChaosSettings, ChaosConfig]):
    task_type = "chaos_sync"

    async def run(self, task: Task[ChaosConfig], call: Call) -> Mapping[str, object]:
        return {"o0": len(task.config.script)}


@hookimpl
def register_agents() -> Sequence[type]:
    return [
        HttpAgent,
        NamedAgent,
        TaggedAgent,
        HopefulAgent,
        SlowAgent,
        IdleAgent,
        RaisingAgent,
        LengthAgent,
    ]
