"""A kernel around one agent that does what a test says, without a server and without a vendor."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pydantic import BaseModel

from flyteagents import (
    Agent,
    Call,
    Idempotency,
    Identity,
    Job,
    Key,
    Name,
    Phase,
    Settings,
    Status,
    Task,
)
from flyteagents._kernel.cancel import Cancelling
from flyteagents._kernel.deadline import Deadline
from flyteagents._kernel.envelope import Envelope, load, new_envelope
from flyteagents._kernel.flight import Made
from flyteagents._kernel.flights import Flights
from flyteagents._kernel.kernel import Kernel
from flyteagents._kernel.keys import attempt_number, fingerprint_of, key_of
from flyteagents._kernel.offered import models_of, offer
from flyteagents._kernel.open_job import OpenJob
from flyteagents._kernel.plugins import Plugin
from flyteagents._kernel.requests import CreateRequest, JobRequest
from flyteagents._kernel.served import ServedAgent
from flyteagents._kernel.settings import KernelSettings
from flyteagents._telemetry.providers import Telemetry, start_telemetry
from flyteagents._wire.messages import codec

WHO = Identity(project="p", domain="d", execution="e", node="n")
PREFIX = "s3://bucket/e/n/data/0"
RUNNING, SUCCEEDED = Status(Phase.RUNNING), Status(Phase.SUCCEEDED)


class Config(BaseModel):
    pass


class Numbered(Job):
    id: Name


class Scripted(Agent[Settings, Config, Numbered]):
    """`script` has the answers of each method: a value is returned, an exception raised, and what
    is awaited is waited for, before the answer after it. The last one stays."""

    task_type = "scripted"
    idempotency: ClassVar[Idempotency] = "vendor"

    def __init__(self) -> None:
        self.script: dict[str, list[Any]] = {
            "create": [Numbered(id="job-1")],
            "find": [None],
            "get": [RUNNING],
            "cancel": [None],
        }
        self.asked: list[str] = []
        self.about: dict[str, list[Any]] = defaultdict(list)
        self.named: Numbered | None = None

    async def _answer(self, method: str, of: object, call: Call) -> Any:
        assert call.operation == method
        self.asked.append(method)
        self.about[method].append(of)
        steps = self.script[method]
        while isinstance(steps[0], asyncio.Event):
            await steps.pop(0).wait()
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        if isinstance(step, BaseException):
            raise step
        return step

    async def create(self, task: Task[Config], call: Call) -> Numbered:
        made: Numbered = await self._answer("create", task, call)
        return made

    async def find(self, task: Task[Config], call: Call) -> Numbered | None:
        found: Numbered | None = await self._answer("find", task, call)
        return found

    async def get(self, job: Numbered, call: Call) -> Status:
        status: Status = await self._answer("get", job, call)
        return status

    async def cancel(self, job: Numbered, call: Call) -> None:
        await self._answer("cancel", job, call)

    def handle(self, task: Task[Config]) -> Numbered | None:
        return self.named


class Lookup(Scripted):
    idempotency: ClassVar[Idempotency] = "lookup"


class Hopeful(Scripted):
    idempotency: ClassVar[Idempotency] = "none"


CLASSES: dict[Idempotency, type[Scripted]] = {
    "vendor": Scripted,
    "lookup": Lookup,
    "none": Hopeful,
}


@dataclass
class Setup:
    """The parts of a kernel around a scripted agent."""

    telemetry: Telemetry = field(default_factory=start_telemetry)
    idempotency: Idempotency = "vendor"
    settings: KernelSettings = field(default_factory=KernelSettings)
    cls: type[Scripted] | None = None

    def __post_init__(self) -> None:
        cls = self.cls or CLASSES[self.idempotency]
        offered = offer(cls, models_of(cls), Settings())
        plugin = Plugin("p", "p", "1", __name__, [offered])
        self.served = ServedAgent(plugin, offered, self.settings, self.telemetry, codec())
        self.agent: Scripted = self.served.agent
        self.kernel = Kernel(self.settings, {"scripted": self.served}, codec(), self.telemetry)
        self.cancelling = Cancelling(self.kernel)
        self.flights = Flights(self.kernel, self.cancelling)

    def request(
        self, prefix: str = PREFIX, *, generation: int = 1, retries: int = 3, **of: Any
    ) -> CreateRequest:
        task = replace(self.task(prefix, retries=retries, **of), config={})  # as it is sent
        who = task.identity
        return CreateRequest("scripted", generation, prefix, who, lambda: replace(task))

    def task(
        self, prefix: str = PREFIX, *, statement: str = "SELECT 1", attempt: int = 0, **of: Any
    ) -> Task[Any]:
        """A task whose attempt writes to `prefix`."""
        who = Identity(project="p", domain="d", execution="e", node="n", attempt=attempt)
        print_ = fingerprint_of({"statement": statement})
        key = key_of("", "scripted", prefix) if prefix else Key("0" * 40)
        return Task("scripted", Config(), key, print_, who, statement, output_prefix=prefix, **of)

    def opened(self, *, age: float = 0.0, **marks: Any) -> OpenJob:
        """A job that was created `age` seconds ago. marks: fields of its envelope."""
        fields = {"created": time.time() - age, "declared": "?", **marks}
        made = new_envelope(WHO, "k" * 40, "scripted", wrote=attempt_number(PREFIX))
        envelope = Envelope(**{**vars(made), **fields})
        request = JobRequest("scripted", meta=os.urandom(8))
        seen = self.kernel.soft.seen(request, "scripted")
        return OpenJob(self.served, Numbered(id="job-1"), envelope, PREFIX, seen=seen)

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        """A counter's values by those of its labels."""
        return dict(getattr(self.telemetry.metrics, name).read())


def made_for(setup: Setup, number: int) -> Made:
    """The job of the attempt with that number."""
    task = setup.task(f"{PREFIX[:-1]}{number}")
    return Made(Numbered(id="job-1"), task.key.hex, number)


def within(seconds: float) -> Deadline:
    """A deadline that leaves so many seconds."""
    deadline = Deadline(None)
    deadline.until = time.monotonic() + seconds
    return deadline


class Hasty(Deadline):
    """A caller that leaves soon after it has begun to wait, and not before: a test that a busy
    machine holds up on the way has the same order of events."""

    def __init__(self) -> None:
        super().__init__(60.0)

    @property
    def left(self) -> float:
        return 0.01


async def until(true: Callable[[], object]) -> None:
    """Wait for what goes on without a caller."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        await asyncio.sleep(0.001)


async def read_back(answer: Awaitable[bytes]) -> Envelope:
    """A create's answer, as whoever polls its job reads it."""
    envelope = load(await answer)
    assert envelope is not None
    return envelope
