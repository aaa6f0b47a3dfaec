"""The plugin that these tests bring: a job at the made-up vendor, and a sync task.

The vendor is `python -m flyteagents.testing.serve_jobs`, a process of its own: it goes on while the
agent server is killed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from flyteagents import (
    Agent,
    Call,
    Endpoint,
    InvalidTask,
    Job,
    Link,
    Name,
    Phase,
    Settings,
    Status,
    SyncAgent,
    Task,
    hookimpl,
)

API = 1


class JobSettings(Settings):
    vendor: str = Field("http://127.0.0.1:9000", description="Address of the job service.")


class Script(BaseModel):
    script: str


class VendorJob(Job):
    id: Name


class State(BaseModel):
    id: str
    state: Literal["PENDING", "RUNNING", "DONE", "FAILED", "CANCELING", "CANCELED"]
    error: str | None = None
    result: Any = None


class JobAgent(Agent[JobSettings, Script, VendorJob]):
    task_type = "interop_job"
    idempotency = "vendor"

    async def endpoint(self, of: object, call: Call) -> Endpoint:
        return Endpoint(self.settings.vendor)

    async def create(self, task: Task[Script], call: Call) -> VendorJob:
        state = await call.http.post(
            "/jobs",
            into=State,
            json={
                "script": task.config.script,
                "tag": task.identity.execution,
                "fingerprint": str(task.fingerprint),
            },
            headers={"Idempotency-Key": task.key.hex},
        )
        return VendorJob(id=state.id)

    async def get(self, job: VendorJob, call: Call) -> Status:
        reply = await call.http.get(f"/jobs/{job.id}", into=State)
        if reply.state == "FAILED":
            again = (reply.error or "").startswith("again")
            return Status(Phase.RETRYABLE_FAILED if again else Phase.FAILED, reply.error)
        if reply.state == "DONE":
            return Status(Phase.SUCCEEDED, outputs={"result": reply.result})
        if reply.state == "CANCELED":
            return Status(Phase.ABORTED, "somebody cancelled the job")
        pending = reply.state == "PENDING"
        return Status(
            Phase.INITIALIZING if pending else Phase.RUNNING,
            "waiting for a slot" if pending else None,
            cancelling=reply.state == "CANCELING",
        )

    async def cancel(self, job: VendorJob, call: Call) -> None:
        await call.http.post(f"/jobs/{job.id}/cancel")

    def links(self, job: VendorJob) -> Sequence[Link]:
        return [Link("Job", f"{self.settings.vendor}/jobs/{job.id}")]


class Factors(BaseModel):
    refuse: bool = False


class SyncProduct(SyncAgent[JobSettings, Factors]):
    task_type = "interop_product"

    async def run(self, task: Task[Factors], call: Call) -> Mapping[str, object]:
        if task.config.refuse:
            raise InvalidTask("this product is refused; ask for another", code="NO_PRODUCT")
        a, b = task.inputs["a"], task.inputs["b"]
        if not isinstance(a, int) or not isinstance(b, int):
            raise InvalidTask("a and b must be integers")
        return {"product": a * b}


@hookimpl
def register_agents() -> list[type[Agent[Any, Any, Any]] | type[SyncAgent[Any, Any]]]:
    return [JobAgent, SyncProduct]
