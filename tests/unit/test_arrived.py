"""An unconfirmed job is awaited until it is seen, or until its vendor has said no."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.unit.kernel_setup import PREFIX, RUNNING, Hasty, Numbered, Setup, until, within

from flyteagents import Forbidden, JobNotFound, Phase, Unavailable
from flyteagents._kernel.envelope import dump, load
from flyteagents._kernel.open_job import YOUNG
from flyteagents._kernel.poll import Polling
from flyteagents._kernel.requests import JobRequest
from flyteagents._kernel.service import Service
from flyteagents._telemetry.tracing import Rpc

JOB = Numbered(id="job-1")
GONE = JobNotFound("no such job")


@pytest.mark.parametrize("seen", [True, False])
async def test_what_was_seen_and_is_gone_is_not_submitted_again(setup: Setup, seen: bool) -> None:
    setup.agent.script["get"] = [RUNNING, GONE] if seen else [GONE]
    resumed: list[object] = []
    polling = Polling(setup.kernel, setup.cancelling, resumed.append)
    opened = setup.opened(unconfirmed=True)
    for _ in range(2):
        answer = await polling.poll(opened, within(60))
    assert len(resumed) == (0 if seen else 2)
    assert ("has not taken the job on yet" in answer.message) != seen


@pytest.mark.parametrize("seen", [True, False])
async def test_what_was_seen_and_is_gone_is_not_retried_since_it_may_have_done_its_work(
    setup: Setup, seen: bool
) -> None:
    setup.agent.script["get"] = [RUNNING, GONE] if seen else [GONE]
    polling = Polling(setup.kernel, setup.cancelling, setup.flights.resume)
    opened = setup.opened(age=YOUNG + 1, unconfirmed=True)
    for _ in range(2):
        answer = await polling.poll(opened, within(60))
    assert answer.phase is (Phase.FAILED if seen else Phase.RETRYABLE_FAILED)


async def test_a_delete_does_not_wait_for_a_job_that_its_vendor_has_refused(setup: Setup) -> None:
    service, answers = Service(setup.kernel), asyncio.Event()
    setup.agent.named = JOB
    setup.agent.script["create"] = [answers, Forbidden("no")]
    setup.agent.script["get"] = setup.agent.script["cancel"] = [GONE]
    tracing = setup.telemetry.tracing
    rpc = Rpc(tracing, "service/CreateTask")
    meta = await service.create(setup.request(), Hasty(), rpc)
    answers.set()
    await until(lambda: not setup.kernel.detached)

    request = JobRequest("scripted", meta, PREFIX)
    await service.delete(request, within(60), Rpc(tracing, "service/DeleteTask"))
    assert setup.agent.asked == ["create", "get", "cancel"]
    assert not setup.kernel.soft.stopping, "the next attempt would take its job for a dying one"


@pytest.mark.usefixtures("asked_once")
async def test_a_delete_waits_for_a_job_that_may_arrive(setup: Setup) -> None:
    service = Service(setup.kernel)
    setup.agent.named = JOB
    setup.agent.script["create"] = [Unavailable("away")]
    setup.agent.script["get"] = [GONE]
    tracing = setup.telemetry.tracing
    rpc = Rpc(tracing, "service/CreateTask")
    envelope = load(await service.create(setup.request(), within(60), rpc))
    assert envelope is not None
    meta = dump(replace(envelope, request=""))
    request = JobRequest("scripted", meta, PREFIX)
    await service.delete(request, Hasty(), Rpc(tracing, "service/DeleteTask"))
    assert setup.kernel.soft.stopping
    await setup.kernel.detached.drain(0.01)
