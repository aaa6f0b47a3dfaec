"""Runs tasks of type `acme_job` as jobs of acme, a made-up vendor."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

import flyteagents as fa

API = 1


class AcmeSettings(fa.Settings):
    url: str = "https://jobs.acme.example"


class AcmeConfig(BaseModel):
    script: str


class AcmeJob(fa.Job):
    id: fa.Name


class AcmeState(BaseModel):
    state: str
    error: str | None = None
    result: Mapping[str, object] | None = None


PHASES = {
    "PENDING": fa.Phase.INITIALIZING,
    "RUNNING": fa.Phase.RUNNING,
    "CANCELING": fa.Phase.RUNNING,
    "CANCELED": fa.Phase.ABORTED,
    "DONE": fa.Phase.SUCCEEDED,
    "FAILED": fa.Phase.FAILED,
}


class AcmeAgent(fa.Agent[AcmeSettings, AcmeConfig, AcmeJob]):
    task_type = "acme_job"
    idempotency = "vendor"

    async def endpoint(self, of: object, call: fa.Call) -> fa.Endpoint:
        return fa.Endpoint(self.settings.url, bearer=await call.secret("acme_token"))

    async def create(self, task: fa.Task[AcmeConfig], call: fa.Call) -> AcmeJob:
        return await call.http.post(
            "/jobs",
            into=AcmeJob,
            json={"script": task.config.script},
            headers={"Idempotency-Key": task.key.hex},
        )

    async def get(self, job: AcmeJob, call: fa.Call) -> fa.Status:
        reply = await call.http.get(f"/jobs/{job.id}", into=AcmeState)
        return fa.Status(
            PHASES.get(reply.state),
            reply.error,
            outputs=reply.result,
            cancelling=reply.state == "CANCELING",
        )

    async def cancel(self, job: AcmeJob, call: fa.Call) -> None:
        await call.http.post(f"/jobs/{job.id}/cancel")


@fa.hookimpl
def register_agents() -> Sequence[type[AcmeAgent]]:
    return [AcmeAgent]
