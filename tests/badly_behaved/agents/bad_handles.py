"""Agents whose handles or texts break a promise, and synchronous ones."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence

from pydantic import ConfigDict
from tests.agents.job_agents import EchoAgent, JobsSettings, Script, VendorJob

from flyteagents import Agent, AgentError, Call, Job, Name, Phase, Status, Task


class Bulky(Job):
    id: Name
    note: str = ""


class KeepsTooMuch(Agent[JobsSettings, Script, Bulky]):
    """The handle has everything that might be good to have."""

    task_type = "keeps_too_much"
    idempotency = "vendor"

    async def create(self, task: Task[Script], call: Call) -> Bulky:
        return Bulky(id=task.key.hex, note="x" * 2000)

    async def get(self, job: Bulky, call: Call) -> Status:
        return Status(Phase.SUCCEEDED)

    async def cancel(self, job: Bulky, call: Call) -> None:
        return


class Loose(Job):
    model_config = ConfigDict(extra="allow")
    id: str = "job-1"


class TakesAnyHandle(Agent[JobsSettings, Script, Loose]):
    """Its job model fits every JSON object, so noise looks like another connector's job."""

    task_type = "takes_any_handle"
    idempotency = "vendor"

    async def create(self, task: Task[Script], call: Call) -> Loose:
        return Loose(id=task.key.hex)

    async def get(self, job: Loose, call: Call) -> Status:
        return Status(Phase.RUNNING)

    async def cancel(self, job: Loose, call: Call) -> None:
        return


class KeepsTheToken(Agent[JobsSettings, Script, Bulky]):
    """The handle has what opens the vendor."""

    task_type = "keeps_the_token"
    idempotency = "vendor"

    async def create(self, task: Task[Script], call: Call) -> Bulky:
        return Bulky(id=task.key.hex, note=await call.secret("jobs_token"))

    async def get(self, job: Bulky, call: Call) -> Status:
        return Status(Phase.FAILED, "no")

    async def cancel(self, job: Bulky, call: Call) -> None:
        return


class TellsTheToken(Agent[JobsSettings, Script, VendorJob]):
    """Reads the token past the kernel, which then cannot mask it."""

    task_type = "tells_the_token"
    idempotency = "vendor"

    async def create(self, task: Task[Script], call: Call) -> VendorJob:
        return VendorJob(id=task.key.hex)

    async def get(self, job: VendorJob, call: Call) -> Status:
        return Status(Phase.FAILED, f"not with {os.environ['FLYTEAGENTS_SECRET_JOBS_TOKEN']}")

    async def cancel(self, job: VendorJob, call: Call) -> None:
        return


class NeverFails(EchoAgent):
    """Synchronous; an error is an answer, too."""

    task_type = "never_fails"

    async def run(self, task: Task[Script], call: Call) -> Mapping[str, object]:
        try:
            return await super().run(task, call)
        except AgentError:
            return {}


class EchoesTexts(EchoAgent):
    """Synchronous; returns a text for a number."""

    task_type = "echoes_texts"

    async def run(self, task: Task[Script], call: Call) -> Mapping[str, object]:
        return {name: str(value) for name, value in (await super().run(task, call)).items()}


class TakesItsTime(EchoAgent):
    """Synchronous in name only."""

    task_type = "takes_its_time"

    async def run(self, task: Task[Script], call: Call) -> Mapping[str, object]:
        await asyncio.sleep(4)
        return await super().run(task, call)


AGENTS: Sequence[type] = (
    KeepsTooMuch,
    TakesAnyHandle,
    KeepsTheToken,
    TellsTheToken,
    NeverFails,
    EchoesTexts,
    TakesItsTime,
)
