"""A server whose one client has died cancels what was created there, and nothing else."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.kernel_setup import PREFIX, RUNNING, SUCCEEDED, Numbered, Setup

from flyteagents import Phase, Status, Unavailable
from flyteagents._kernel import cancel
from flyteagents._kernel.deadline import Deadline
from flyteagents._kernel.envelope import load
from flyteagents._kernel.requests import JobRequest
from flyteagents._kernel.service import Service
from flyteagents._telemetry.tracing import Rpc

STOPPED = Status(Phase.ABORTED)


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancel, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(cancel, "LAST_PAUSE", 0.001)


def rpc(setup: Setup, method: str) -> Rpc:
    return Rpc(setup.telemetry.tracing, "service", method, ())


async def created(setup: Setup, service: Service, seconds: float = 5.0) -> bytes:
    return await service.create(setup.request(), Deadline(seconds), rpc(setup, "CreateTask"))


async def polled(setup: Setup, service: Service, meta: bytes) -> Phase:
    request = JobRequest("scripted", meta, PREFIX)
    answer = await service.get(request, Deadline(5), rpc(setup, "GetTask"))
    setup.kernel.soft.requests.put(meta, request)  # as the wire remembers it
    return answer.phase


async def test_a_job_that_runs_is_cancelled(setup: Setup) -> None:
    service = Service(setup.kernel)
    await created(setup, service)
    setup.agent.script["get"] = [RUNNING, STOPPED]
    service.abandon()
    assert await setup.kernel.detached.drain(5) == 0
    assert setup.agent.asked.count("cancel") == 1


async def test_a_job_that_is_known_to_have_ended_is_not_even_looked_at(setup: Setup) -> None:
    service = Service(setup.kernel)
    setup.agent.script["get"] = [SUCCEEDED]
    assert await polled(setup, service, await created(setup, service)) is Phase.SUCCEEDED
    asked = list(setup.agent.asked)
    service.abandon()
    assert await setup.kernel.detached.drain(5) == 0
    assert setup.agent.asked == asked


async def test_a_job_that_lands_after_its_caller_has_died_is_cancelled(setup: Setup) -> None:
    service, landing = Service(setup.kernel), asyncio.Event()
    setup.agent.script["create"] = [landing, Numbered(id="job-1")]
    creating = asyncio.create_task(created(setup, service))
    while not setup.agent.asked:  # noqa: ASYNC110 # nobody sets an event
        await asyncio.sleep(0)
    creating.cancel()
    await asyncio.gather(creating, return_exceptions=True)
    service.abandon()
    setup.agent.script["get"] = [RUNNING, STOPPED]
    landing.set()
    assert await setup.kernel.detached.drain(5) == 0
    assert setup.agent.asked.count("cancel") == 1


async def test_a_job_that_was_answered_before_its_vendor_had_is_cancelled(setup: Setup) -> None:
    service = Service(setup.kernel)
    setup.agent.named = Numbered(id="job-1")
    setup.agent.script["create"] = [Unavailable("not now")]
    meta = await created(setup, service, seconds=0.5)
    envelope = load(meta)
    assert envelope is not None
    assert envelope.unconfirmed
    assert await polled(setup, service, meta) is Phase.RUNNING
    setup.agent.script["get"] = [RUNNING, STOPPED]
    service.abandon()
    assert await setup.kernel.detached.drain(5) == 0
    assert setup.agent.asked.count("cancel") == 1
