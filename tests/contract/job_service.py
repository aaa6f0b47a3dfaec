"""The contract's hooks for agents of the test kit's job service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

from flyteagents import Key
from flyteagents.testing import FlyteTask, JobService, Response, task_template
from flyteagents.testing.contract import AgentContract, HttpControl, VendorControl

AGENTS = Path(__file__).parents[1] / "agents"
TOKEN = "canary-5f3a9c"


class JobServiceContract(AgentContract):
    """What the agents of the job service have in common."""

    plugins = ("jobs",)
    python_path: ClassVar[Sequence[Path]] = (AGENTS,)
    outputs: ClassVar[Mapping[str, object]] = {"result": 7.0}
    secret = TOKEN
    submit: ClassVar[tuple[str, str]] = ("POST", "/jobs")
    look: ClassVar[tuple[str, str]] = ("GET", "/jobs/*")
    missing: ClassVar[Response] = Response(404, {"error": "no such job"})
    unknown: ClassVar[object] = {"id": "job-1", "state": "HIBERNATING"}

    @asynccontextmanager
    async def vendor(self) -> AsyncIterator[VendorControl]:
        async with JobService(token=TOKEN) as service:

            def jobs(key: Key) -> int:
                found = service.jobs.values()
                return sum(key.hex in (job.id, job.key, job.tag) for job in found)

            def live(key: Key) -> int:
                return sum(key.hex in (job.id, job.key, job.tag) for job in service.live())

            def slow_cancel(seconds: float) -> None:
                service.cancel_seconds = seconds

            yield HttpControl(
                service,
                submit=self.submit,
                look=self.look,
                cancel=("POST", "/jobs/*/cancel"),
                started=jobs,
                live=live,
                missing=self.missing,
                refused=Response(403, {"error": {"message": "you may not start jobs"}}),
                unknown_state=Response(200, self.unknown),
                slow_cancel=slow_cancel,
            )

    def environment(self, vendor: VendorControl) -> Mapping[str, str]:
        return {"FLYTEAGENTS_JOBS_URL": vendor.url, "FLYTEAGENTS_SECRET_JOBS_TOKEN": TOKEN}

    def task(self, script: str) -> FlyteTask:
        return task_template(self.task_type, custom={"script": script}, outputs={"result": float})

    def succeeds(self) -> FlyteTask:
        return self.task("pending 0.1; sleep 0.2; return 7")

    def fails(self) -> FlyteTask:
        return self.task("fail there is no table t")

    def runs_long(self) -> FlyteTask:
        return self.task("forever")
