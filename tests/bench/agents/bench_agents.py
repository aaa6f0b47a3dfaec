"""Our side of the comparison: an agent that does nothing, and one that asks its vendor."""

from __future__ import annotations

from pydantic import BaseModel

from flyteagents import Agent, Call, Endpoint, Job, Name, Phase, Settings, Status, Task, hookimpl

API = 1


class BenchSettings(Settings):
    url: str = "http://127.0.0.1:1"


class BenchConfig(BaseModel):
    script: str


class BenchJob(Job):
    id: Name


class State(BaseModel):
    state: str


class Nothing(Agent[BenchSettings, BenchConfig, BenchJob]):
    """Starts nothing, and says that it runs."""

    task_type = "bench_nothing"
    idempotency = "vendor"

    async def endpoint(self, of: object, call: Call) -> Endpoint:
        return Endpoint(self.settings.url)

    async def create(self, task: Task[BenchConfig], call: Call) -> BenchJob:
        return BenchJob(id=task.key.hex)

    async def get(self, job: BenchJob, call: Call) -> Status:
        return Status(Phase.RUNNING)

    async def cancel(self, job: BenchJob, call: Call) -> None:
        pass


class Slow(Nothing):
    """Asks its vendor at each poll."""

    task_type = "bench_slow"

    async def get(self, job: BenchJob, call: Call) -> Status:
        reply = await call.http.get(f"/jobs/{job.id}", into=State)
        return Status({"RUNNING": Phase.RUNNING}.get(reply.state))


@hookimpl
def register_agents() -> list[type[Nothing]]:
    return [Nothing, Slow]
