"""Calls to the life cycle itself, where an order of events matters that no socket can be made to
keep."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from flyteagents import (
    Agent,
    Call,
    Fingerprint,
    Identity,
    Job,
    Key,
    Name,
    Phase,
    Settings,
    Status,
    Task,
    Unavailable,
)
from flyteagents._kernel.deadline import Deadline
from flyteagents._kernel.envelope import Envelope, load
from flyteagents._kernel.kernel import Kernel
from flyteagents._kernel.offered import models_of, offer
from flyteagents._kernel.plugins import Plugin
from flyteagents._kernel.requests import CreateRequest
from flyteagents._kernel.served import ServedAgent
from flyteagents._kernel.service import Service
from flyteagents._kernel.settings import KernelSettings
from flyteagents._telemetry.providers import Telemetry, start_telemetry
from flyteagents._telemetry.tracing import Rpc
from flyteagents._wire.messages import codec


class Config(BaseModel):
    pass


class Numbered(Job):
    id: Name


class FailsOnce(Agent[Settings, Config, Numbered]):
    """Its first create fails after a while, the next ones take longer."""

    task_type = "once"
    idempotency = "none"
    creates = 0

    async def create(self, task: Task[Config], call: Call) -> Numbered:
        self.creates += 1
        number = self.creates
        await asyncio.sleep(0.05 * number)
        if number == 1:
            raise Unavailable("not now")
        return Numbered(id=f"job-{number}")

    async def get(self, job: Numbered, call: Call) -> Status:
        return Status(Phase.RUNNING)

    async def cancel(self, job: Numbered, call: Call) -> None:
        return


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    started = start_telemetry()
    yield started
    started.shutdown()


async def test_the_next_call_for_a_key_is_not_forgotten_when_the_last_one_has_failed(
    telemetry: Telemetry,
) -> None:
    offered = offer(FailsOnce, models_of(FailsOnce), Settings())
    plugin = Plugin("p", "p", "1", __name__, [offered])
    settings = KernelSettings()
    served = ServedAgent(plugin, offered, settings)
    service = Service(Kernel(settings, {"once": served}, codec(), telemetry))

    async def create() -> Envelope:
        who = Identity(project="p", domain="d")
        task: Task[Any] = Task("once", {}, Key(""), Fingerprint(""), who)
        request = CreateRequest("once", 1, "s3://b/x/data/0", who, lambda: task)
        rpc = Rpc(telemetry.tracing, "service/CreateTask")
        envelope = load(await service.create(request, Deadline(None), rpc))
        assert envelope is not None
        return envelope

    async def twice() -> Envelope:
        assert (await create()).parked is not None
        return await create()  # begins another flight, before the other waiter has looked

    first, other = asyncio.create_task(twice()), asyncio.create_task(create())
    assert (await other).parked is not None
    third = asyncio.create_task(create())
    assert (await first).job == (await third).job == {"id": "job-2"}
    assert served.agent.creates == 2
