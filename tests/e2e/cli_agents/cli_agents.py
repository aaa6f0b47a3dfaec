"""A plugin for the tests of the command line. Its jobs are a file, and end by the clock."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from flyteagents import (
    Agent,
    Blob,
    Call,
    CommaList,
    Forbidden,
    InvalidTask,
    Job,
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
log = logging.getLogger(__name__)


class ClockSettings(Settings):
    directory: Path = Field(Path(), description="Where a file for each job is.")
    url: str = Field("", description="Address with a password in it.")
    api_key: str = Field("", description="A secret in the wrong place.")
    input_prefixes: CommaList = Field((), description="Where files may be read from.")
    output_prefixes: CommaList = Field((), description="Where outputs may go; none: anywhere.")
    mood: str = Field("good", description="What `check` says: good, bad or slow.")
    locked: bool = Field(False, description="Whether jobs may neither be seen nor cancelled.")


class ClockConfig(BaseModel):
    seconds: float = 0
    fail: str = ""
    again: bool = False
    complaint: str = ""
    bug: bool = False
    stubborn: bool = False
    locks: bool = False
    refuses: bool = False
    away: bool = False
    overtaken: bool = False
    slow: float = 0
    outputs: dict[str, Any] = {}


class ClockJob(Job):
    id: Name


class ClockAgent(Agent[ClockSettings, ClockConfig, ClockJob]):
    task_type = "clocked_job"
    idempotency = "vendor"

    async def create(self, task: Task[ClockConfig], call: Call) -> ClockJob:
        file = self._file(task.key.hex)
        read = [each.uri for each in task.inputs.values() if isinstance(each, Blob)]
        if not set(read) <= set(self.settings.input_prefixes):
            raise InvalidTask(f"{read} is not open to this service")
        to = task.output_prefix
        if self.settings.output_prefixes and not to.startswith(self.settings.output_prefixes):
            raise InvalidTask(f"nothing may be written to {to}")
        if not file.exists():
            config = task.config.model_dump()
            seen = {name: str(value) for name, value in task.inputs.items()}
            file.write_text(json.dumps({**config, "start": time.time(), "inputs": seen}))
        await asyncio.sleep(task.config.slow)
        return ClockJob(id=task.key.hex)

    async def get(self, job: ClockJob, call: Call) -> Status:
        self._enter()
        try:
            state = json.loads(self._file(job.id).read_text())
        except OSError:
            raise JobNotFound("no such file") from None
        if state["bug"]:
            return Status(Phase[state["no such key"]])
        if state["complaint"]:
            log.warning("poll %d: %s", time.time_ns(), state["complaint"])
        if state.get("cancelled"):
            return Status(Phase.ABORTED, "cancelled")
        if state.get("shut"):
            raise Forbidden("the clock is locked")
        age = time.time() - state["start"]
        share = min(age / state["seconds"], 1.0) if state["seconds"] else 1.0
        info = {"progress": share, "rows": 1200, "bytes_read": 2048}
        if share < 1:
            return Status(Phase.RUNNING, info=info)
        if state["fail"]:
            phase = Phase.RETRYABLE_FAILED if state["again"] else Phase.FAILED
            return Status(phase, state["fail"], info=info)
        outputs = {**state["outputs"], "inputs": state["inputs"]}
        statistics = {"rows": 1200, "bytes_read": 2048}
        return Status(Phase.SUCCEEDED, outputs=outputs, info=info, statistics=statistics)

    async def cancel(self, job: ClockJob, call: Call) -> None:
        self._enter()
        file = self._file(job.id)
        if not file.exists():
            return
        state = json.loads(file.read_text())
        if state["away"]:
            raise Unavailable("the clock is being wound")
        if state["refuses"]:
            raise Forbidden("the clock is not yours to stop", code="notYours")
        if state["stubborn"]:
            await asyncio.sleep(60)
        if state["overtaken"]:
            state["seconds"] = 0
        else:
            state["shut" if state["locks"] else "cancelled"] = True
        file.write_text(json.dumps(state))

    def links(self, job: ClockJob) -> Sequence[Link]:
        return (Link("Clock", f"https://clock.example/{job.id[:4]}"),)

    async def check(self, call: Call) -> str:
        if self.settings.mood == "slow":
            await asyncio.sleep(60)
        if self.settings.mood == "bad":
            raise JobNotFound("the clock has stopped")
        return "the clock ticks"

    def _enter(self) -> None:
        if self.settings.locked:
            raise Forbidden("the clock is locked")

    def _file(self, name: str) -> Path:
        return self.settings.directory / f"{name}.json"


class AddAgent(SyncAgent[ClockSettings, ClockConfig]):
    task_type = "clocked_sum"

    async def run(self, task: Task[ClockConfig], call: Call) -> Mapping[str, object]:
        numbers = [value for value in task.inputs.values() if isinstance(value, int)]
        return {"sum": sum(numbers)}


@hookimpl
def register_agents() -> list[type[Any]]:
    return [ClockAgent, AddAgent]
