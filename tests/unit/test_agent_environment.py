"""An author drives an agent's methods in one process, with public names only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
from pydantic import BaseModel

from flyteagents import (
    Agent,
    Call,
    Endpoint,
    InvalidTask,
    Job,
    LogLine,
    LogPage,
    Name,
    Phase,
    Settings,
    Status,
    SyncAgent,
    Task,
    Throttled,
    Unauthenticated,
)
from flyteagents.testing import (
    AgentEnvironment,
    JobService,
    Response,
    SyncAgentEnvironment,
    task_template,
)

PHASES = {
    "RUNNING": Phase.RUNNING,
    "DONE": Phase.SUCCEEDED,
    "FAILED": Phase.FAILED,
    "CANCELED": Phase.ABORTED,
}


class JobSettings(Settings):
    url: str = "http://nowhere.invalid"


class JobConfig(BaseModel):
    script: str


class ServiceJob(Job):
    id: Name


class ServiceState(BaseModel):
    state: str
    error: str | None = None


class JobsAgent(Agent[JobSettings, JobConfig, ServiceJob]):
    task_type = "jobs"
    idempotency = "vendor"
    opened = closed = False
    seen: Call

    async def open(self) -> None:
        self.opened = True

    async def close(self) -> None:
        type(self).closed = True

    async def endpoint(self, of: object, call: Call) -> Endpoint:
        return Endpoint(self.settings.url, bearer=await call.secret("token"))

    async def create(self, task: Task[JobConfig], call: Call) -> ServiceJob:
        self.seen = call
        return await call.http.post(
            "/jobs",
            into=ServiceJob,
            json={"script": task.config.script},
            headers={"Idempotency-Key": task.key.hex},
        )

    async def find(self, task: Task[JobConfig], call: Call) -> ServiceJob | None:
        self.seen = call
        return ServiceJob(id="found")

    async def get(self, job: ServiceJob, call: Call) -> Status:
        self.seen = call
        reply = await call.http.get(f"/jobs/{job.id}", into=ServiceState)
        return Status(PHASES.get(reply.state), reply.error or "", outputs={"n": 7})

    async def cancel(self, job: ServiceJob, call: Call) -> None:
        self.seen = call
        await call.http.post(f"/jobs/{job.id}/cancel")

    async def logs(self, job: ServiceJob, call: Call, token: str, lines: int) -> LogPage:
        self.seen = call
        return LogPage([LogLine(f"{token}:{lines}")], "")

    async def check(self, call: Call) -> str:
        return f"the token has {len(await call.secret('token'))} letters"


class AddAgent(SyncAgent[Settings, JobConfig]):
    task_type = "add"

    async def run(self, task: Task[JobConfig], call: Call) -> Mapping[str, object]:
        return {"sum": sum(map(int, map(str, task.inputs.values()))), "for": call.identity.project}


@pytest.fixture
async def service() -> AsyncIterator[JobService]:
    async with JobService(token="s3cret") as service:
        yield service


@pytest.fixture
async def env(
    service: JobService,
) -> AsyncIterator[AgentEnvironment[JobSettings, JobConfig, ServiceJob]]:
    settings = JobSettings(url=service.url)
    async with AgentEnvironment(JobsAgent, settings=settings, secrets={"token": "s3cret"}) as env:
        yield env


Env = AgentEnvironment[JobSettings, JobConfig, ServiceJob]


def seen(env: Env) -> Call:
    assert isinstance(env.agent, JobsAgent)
    return env.agent.seen


async def test_a_task_is_created_polled_and_cancelled_over_http(
    env: Env, service: JobService
) -> None:
    task = env.task(custom={"script": "forever"}, outputs={"n": int})
    job = await env.create(task)
    assert (await env.create(task)) == job, "the key repeats with the attempt"
    assert (await env.get(job)).phase is Phase.RUNNING
    await env.cancel(job)
    assert (await env.get(job)).phase is Phase.ABORTED
    assert service.started[task.key.hex] == 1


async def test_a_task_is_carried_to_its_end(env: Env) -> None:
    status = await env.run(env.task(custom={"script": "sleep 0.05; return 7"}))
    assert (status.phase, status.outputs) == (Phase.SUCCEEDED, {"n": 7})
    job = await env.create(env.task(custom={"script": "forever"}, execution="other"))
    with pytest.raises(asyncio.TimeoutError, match="RUNNING"):
        await env.until(job, within=0.05)
    running = await env.until(job, lambda status: status.phase is Phase.RUNNING)
    assert running.phase is Phase.RUNNING


async def test_a_task_is_read_as_flyte_sends_it(env: Env) -> None:
    task = env.task(
        custom={"script": "x"}, inputs={"n": 3}, outputs={"m": float}, attempt=2, execution="e7"
    )
    assert task.inputs == {"n": 3}
    assert list(task.declared) == ["m"]
    assert (task.identity.execution, task.identity.attempt) == ("e7", 2)
    assert task.output_prefix.endswith("/e7/n0/data/2")
    second = env.task(custom={"script": "x"}, generation=2, project="sales")
    assert second.output_prefix.endswith("/flyte/sales/development/run/a0/1")
    written = task_template("jobs", custom={"script": "x"}, inputs={"n": 3}, outputs={"m": float})
    assert env.read(written, execution="e7", attempt=2) == task
    with pytest.raises(InvalidTask, match="script"):
        env.task(custom={})


async def test_a_call_about_a_job_knows_what_an_envelope_keeps_of_its_task(env: Env) -> None:
    task = env.task(custom={"script": "forever"}, outputs={"n": int}, project="sales")
    job = await env.create(task)
    assert seen(env).identity == task.identity
    await env.get(job)
    assert seen(env).identity.project == "sales"
    assert seen(env).identity.labels == {}, "an envelope keeps no labels"
    assert (seen(env).declared, seen(env).output_prefix) == (task.declared, task.output_prefix)
    await env.cancel(job)
    assert seen(env).output_prefix == "", "Flyte does not send it there"
    await env.get(job, project="others", declared={}, output_prefix="s3://o/1", seconds=1.0)
    assert (seen(env).identity.project, seen(env).declared) == ("others", {})
    assert (seen(env).output_prefix, seen(env).remaining < 1) == ("s3://o/1", True)
    unknown = env.call("get", ServiceJob(id="of-another-connector"))
    assert (unknown.identity.project, unknown.declared) == ("tests", {})


async def test_the_vendor_client_is_the_kernels(env: Env, service: JobService) -> None:
    job = await env.create(env.task(custom={"script": "forever"}))
    service.script("GET", "/jobs/*", Response(429, {"message": "slow down"}))
    with pytest.raises(Throttled):
        await env.get(job)
    service.script("POST", "/jobs", Response(503))
    repeated = await env.create(env.task(custom={"script": "forever"}))
    assert repeated == job, "a create repeats what is safe to repeat"
    service.token = "another"
    with pytest.raises(Unauthenticated):
        await env.get(job)


async def test_secrets_come_from_the_operator_or_from_the_request(service: JobService) -> None:
    settings = JobSettings(url=service.url)
    async with AgentEnvironment(JobsAgent, settings=settings) as env:
        task = env.task(custom={"script": "return 1"})
        with pytest.raises(Unauthenticated, match="no secret 'token'"):
            await env.create(task)
        await env.create(task, sent_secrets={"token": "s3cret"})
        assert await env.check(sent_secrets={"token": "12345"}) == "the token has 5 letters"


async def test_an_agent_is_opened_and_closed_and_its_other_methods_are_there(env: Env) -> None:
    assert isinstance(env.agent, JobsAgent)
    assert env.agent.opened
    assert await env.find(env.task(custom={"script": "x"})) == ServiceJob(id="found")
    page = await env.logs(ServiceJob(id="found"), token="t", lines=3)
    assert page.lines[0].message == "t:3"
    JobsAgent.closed = False
    async with AgentEnvironment(JobsAgent):
        pass
    assert JobsAgent.closed


async def test_a_synchronous_agent_runs() -> None:
    async with SyncAgentEnvironment(AddAgent, project="sums") as env:
        task = env.task(custom={"script": ""}, inputs={"a": 2, "b": 40})
        assert await env.run(task) == {"sum": 42, "for": "sums"}
