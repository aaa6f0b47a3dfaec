"""Small agents for the test kit's job service: each kind of idempotency, with a handle of ours
and with one of the vendor's, and one that is synchronous."""

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
    InvalidTask,
    Job,
    JobConflict,
    JobNotFound,
    Link,
    Name,
    Phase,
    Settings,
    Status,
    SyncAgent,
    Task,
    Unavailable,
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


class JobsSettings(Settings):
    """other_url: the vendor of the jobs that are looked up, if it is another one. password: goes
    along with each request."""

    url: str = "http://127.0.0.1:9000"
    other_url: str = ""
    password: str = ""


class Script(BaseModel):
    script: str


class VendorJob(Job):
    id: Name


class State(BaseModel):
    id: Name
    state: str
    fingerprint: str = ""
    error: str | None = None
    result: object = None
    started: float | None = None


class States(BaseModel):
    jobs: list[State]


class KeyedAgent(Agent[JobsSettings, Script, VendorJob]):
    """The vendor dedupes our key, and names the job."""

    task_type = "job_keyed"
    idempotency: ClassVar[Idempotency] = "vendor"

    @property
    def vendor(self) -> str:
        return self.settings.url

    async def endpoint(self, of: object, call: Call) -> Endpoint:
        password = self.settings.password
        return Endpoint(
            self.vendor,
            bearer=await call.find_secret("jobs_token"),
            headers={"X-Password": password} if password else {},
        )

    async def create(self, task: Task[Script], call: Call) -> VendorJob:
        headers = {"Idempotency-Key": task.key.hex}
        state = await call.http.post("/jobs", into=State, json=self.body(task), headers=headers)
        return VendorJob(id=state.id)

    async def get(self, job: VendorJob, call: Call) -> Status:
        state = await self.look(job, call)
        began = state.started and datetime.fromtimestamp(state.started, timezone.utc)
        return Status(
            PHASES.get(state.state),
            state.error,
            outputs={"result": state.result},
            started=began or None,
            cancelling=state.state == "CANCELING",
        )

    async def cancel(self, job: VendorJob, call: Call) -> None:
        await call.http.post(f"/jobs/{job.id}/cancel")

    def links(self, job: VendorJob) -> Sequence[Link]:
        return [Link("Job", f"{self.vendor}/jobs/{job.id}")]

    async def look(self, job: VendorJob, call: Call) -> State:
        return await call.http.get(f"/jobs/{job.id}", into=State)

    def body(self, task: Task[Script]) -> dict[str, str]:
        return {"script": task.config.script, "fingerprint": str(task.fingerprint)}


class NamedAgent(KeyedAgent):
    """We name the job, and the vendor takes a name once."""

    task_type = "job_named"

    def handle(self, task: Task[Script]) -> VendorJob:
        return VendorJob(id=task.key.hex)

    async def create(self, task: Task[Script], call: Call) -> VendorJob:
        path, body = f"/jobs/{task.key.hex}", self.body(task)
        reply = await call.http.put(path, json=body, accept=[409])
        if reply.status == 409 and not task.fingerprint.matches(reply.json()["job"]["fingerprint"]):
            raise JobConflict("the output prefix has a job that does other work")
        return VendorJob(id=task.key.hex)


class TaggedAgent(KeyedAgent):
    """The vendor can be asked for our tag, and names the job."""

    task_type = "job_tagged"
    idempotency: ClassVar[Idempotency] = "lookup"

    @property
    def vendor(self) -> str:
        return self.settings.other_url or self.settings.url

    async def create(self, task: Task[Script], call: Call) -> VendorJob:
        body = {**self.body(task), "tag": task.key.hex}
        return VendorJob(id=(await call.http.post("/jobs", into=State, json=body)).id)

    async def find(self, task: Task[Script], call: Call) -> VendorJob | None:
        state = await self.tagged(task.key.hex, call)
        if state is None:
            return None
        if not task.fingerprint.matches(state.fingerprint):
            raise JobConflict("the output prefix has a job that does other work")
        return VendorJob(id=state.id)

    async def tagged(self, tag: str, call: Call) -> State | None:
        found = await call.http.get("/jobs", into=States, params={"tag": tag})
        return found.jobs[0] if found.jobs else None


class LabelledAgent(TaggedAgent):
    """As the one above, with our tag for a handle."""

    task_type = "job_labelled"

    def handle(self, task: Task[Script]) -> VendorJob:
        return VendorJob(id=task.key.hex)

    async def create(self, task: Task[Script], call: Call) -> VendorJob:
        await super().create(task, call)
        return VendorJob(id=task.key.hex)

    async def find(self, task: Task[Script], call: Call) -> VendorJob | None:
        return None if await super().find(task, call) is None else VendorJob(id=task.key.hex)

    async def look(self, job: VendorJob, call: Call) -> State:
        state = await self.tagged(job.id, call)
        if state is None:
            raise JobNotFound(f"no job has the tag {job.id}")
        return state

    async def cancel(self, job: VendorJob, call: Call) -> None:
        state = await self.look(job, call)
        await call.http.post(f"/jobs/{state.id}/cancel")


class HopefulAgent(TaggedAgent):
    """The vendor dedupes nothing, and is not asked either. The tag is for the tests to count."""

    task_type = "job_hopeful"
    idempotency: ClassVar[Idempotency] = "none"


class EchoAgent(SyncAgent[JobsSettings, Script]):
    """Runs within the call: `return 3` returns 3; it may also `fail`, or be `busy`."""

    task_type = "job_echo"

    async def run(self, task: Task[Script], call: Call) -> Mapping[str, object]:
        word, _, rest = task.config.script.partition(" ")
        if word == "busy":
            raise Unavailable("busy; come again")
        if word != "return":
            raise InvalidTask(f"{word!r} is not what this agent does")
        return {"result": float(rest)}


@hookimpl
def register_agents() -> Sequence[type]:
    return [KeyedAgent, NamedAgent, TaggedAgent, LabelledAgent, HopefulAgent, EchoAgent]
