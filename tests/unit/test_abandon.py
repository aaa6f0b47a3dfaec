"""A private server whose one client has died cancels that client's jobs, and nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.unit.kernel_setup import (
    PREFIX,
    RUNNING,
    SUCCEEDED,
    Hasty,
    Numbered,
    Scripted,
    Setup,
    until,
    within,
)

from flyteagents import Call, Job, JobNotFound, LogLine, LogPage, Phase, Status, Unavailable
from flyteagents._kernel import cancel
from flyteagents._kernel.deadline import Deadline
from flyteagents._kernel.envelope import load
from flyteagents._kernel.requests import NO_CONNECTION, Connection, CreateRequest, JobRequest
from flyteagents._kernel.service import Service
from flyteagents._telemetry.providers import Telemetry
from flyteagents._telemetry.tracing import Rpc

JOB = Numbered(id="job-1")
STOPPED = Status(Phase.ABORTED)
SENT = Connection({"acme": "s3cret-value"})


class Connected(Scripted):
    """Keeps what a cancel was sent along."""

    async def cancel(self, job: Numbered, call: Call) -> None:
        await super().cancel(job, call)
        self.about["secret"].append(await call.sent_secret("acme"))


@pytest.fixture
def setup(quiet_telemetry: Telemetry) -> Setup:
    setup = Setup(quiet_telemetry, cls=Connected)
    setup.kernel.private = True
    return setup


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancel, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(cancel, "LAST_PAUSE", 0.001)


def rpc(setup: Setup, method: str) -> Rpc:
    return Rpc(setup.telemetry.tracing, f"service/{method}")


async def created(
    setup: Setup,
    service: Service,
    deadline: Deadline | None = None,
    request: CreateRequest | None = None,
) -> bytes:
    request = request or setup.request()
    return await service.create(request, deadline or within(60), rpc(setup, "CreateTask"))


async def polled(
    setup: Setup, service: Service, meta: bytes, connection: Connection = NO_CONNECTION
) -> Phase:
    request = JobRequest("scripted", meta, PREFIX, connection)
    answer = await service.get(request, within(60), rpc(setup, "GetTask"))
    return answer.phase


async def its_caller_dies(
    setup: Setup, service: Service, request: CreateRequest | None = None
) -> None:
    """A caller that dies while the vendor is asked to create."""
    creating = asyncio.create_task(created(setup, service, request=request))
    while not setup.agent.asked:  # noqa: ASYNC110 # nobody sets an event
        await asyncio.sleep(0)
    creating.cancel()
    await asyncio.gather(creating, return_exceptions=True)
    service.abandon()


async def asked_for(setup: Setup, method: str) -> None:
    await until(lambda: method in setup.agent.asked)


async def test_a_job_that_runs_is_cancelled(setup: Setup) -> None:
    service = Service(setup.kernel)
    await created(setup, service)
    setup.agent.script["get"] = [RUNNING, STOPPED]
    service.abandon()
    assert await setup.kernel.detached.drain(60) == 0
    assert setup.agent.asked.count("cancel") == 1


async def test_a_job_that_is_known_to_have_ended_is_not_even_looked_at(setup: Setup) -> None:
    service = Service(setup.kernel)
    setup.agent.script["get"] = [SUCCEEDED]
    assert await polled(setup, service, await created(setup, service)) is Phase.SUCCEEDED
    asked = list(setup.agent.asked)
    service.abandon()
    assert await setup.kernel.detached.drain(60) == 0
    assert setup.agent.asked == asked


async def test_a_job_that_lands_after_its_caller_has_died_is_cancelled(setup: Setup) -> None:
    service, landing = Service(setup.kernel), asyncio.Event()
    setup.agent.script["create"] = [landing, JOB]
    await its_caller_dies(setup, service)
    setup.agent.script["get"] = [RUNNING, STOPPED]
    landing.set()
    assert await setup.kernel.detached.drain(60) == 0
    assert setup.agent.asked.count("cancel") == 1


@pytest.mark.usefixtures("asked_once")
async def test_a_job_that_was_answered_before_its_vendor_had_is_cancelled(setup: Setup) -> None:
    service = Service(setup.kernel)
    setup.agent.named = JOB
    setup.agent.script["create"] = [Unavailable("not now")]
    meta = await created(setup, service)
    envelope = load(meta)
    assert envelope is not None
    assert envelope.unconfirmed
    assert await polled(setup, service, meta) is Phase.RUNNING
    setup.agent.script["get"] = [RUNNING, STOPPED]
    service.abandon()
    assert await setup.kernel.detached.drain(60) == 0
    assert setup.agent.asked.count("cancel") == 1


@pytest.mark.parametrize("named", [JOB, None])
async def test_a_submit_whose_reply_is_lost_after_its_caller_has_died_is_looked_for(
    setup: Setup, named: Numbered | None
) -> None:
    service, landing = Service(setup.kernel), asyncio.Event()
    setup.agent.named = named
    setup.agent.script["create"] = [landing, Unavailable("the reply was lost")]
    await its_caller_dies(setup, service)
    setup.agent.script["find"] = [JOB]
    setup.agent.script["get"] = [RUNNING, STOPPED]
    landing.set()
    assert await setup.kernel.detached.drain(60) == 0
    assert setup.agent.asked.count("cancel") == 1


async def test_an_earlier_job_that_was_being_settled_when_its_caller_died_is_cancelled(
    setup: Setup,
) -> None:
    service, landing = Service(setup.kernel), asyncio.Event()
    setup.agent.script["create"] = [landing, JOB]
    setup.agent.script["get"] = [Unavailable("busy"), RUNNING, STOPPED]
    second = setup.request("s3://bucket/e/n/data/2", generation=2, attempt=1)
    await its_caller_dies(setup, service, second)
    landing.set()
    assert await setup.kernel.detached.drain(60) == 0
    assert setup.agent.asked.count("cancel") == 1


@pytest.mark.parametrize("reply", [JOB, Unavailable("the reply was lost")])
async def test_a_job_that_was_answered_before_its_vendor_had_needs_no_poll(
    setup: Setup, reply: Numbered | Unavailable
) -> None:
    service, landing = Service(setup.kernel), asyncio.Event()
    setup.agent.named = JOB
    setup.agent.script["create"] = [landing, reply]
    await created(setup, service, Hasty())
    setup.agent.script["get"] = [JobNotFound("not yet"), RUNNING, STOPPED]
    service.abandon()
    await asked_for(setup, "get")
    landing.set()
    assert await setup.kernel.detached.drain(60) == 0
    assert setup.agent.asked.count("cancel") == 1


async def test_a_job_that_was_answered_before_its_vendor_had_is_cancelled_when_it_lands(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not with the next look, which may come after the drain."""
    monkeypatch.setattr(cancel, "FIRST_PAUSE", 60)
    service, landing = Service(setup.kernel), asyncio.Event()
    setup.agent.named = JOB
    setup.agent.script["create"] = [landing, JOB]
    await created(setup, service, Hasty())
    setup.agent.script["get"] = [JobNotFound("not yet"), RUNNING]
    service.abandon()
    await asked_for(setup, "get")
    landing.set()
    await asked_for(setup, "cancel")
    await setup.kernel.detached.drain(0.01)


async def test_a_job_that_landed_unheard_before_its_client_died_is_cancelled(setup: Setup) -> None:
    service, landing = Service(setup.kernel), asyncio.Event()
    setup.agent.script["create"] = [landing, JOB]
    envelope = load(await created(setup, service, Hasty()))
    assert envelope is not None
    assert envelope.parked is not None
    landing.set()
    await until(lambda: not setup.kernel.detached)
    assert setup.agent.asked == ["create"]
    setup.agent.script["get"] = [RUNNING, STOPPED]
    service.abandon()
    assert await setup.kernel.detached.drain(60) == 0
    assert setup.agent.asked.count("cancel") == 1


@pytest.mark.usefixtures("asked_once")
@pytest.mark.parametrize("heard", [True, False])
async def test_a_submit_whose_reply_was_lost_before_its_client_died_is_looked_for(
    setup: Setup, heard: bool
) -> None:
    """Also where the client was told so, and died before its next attempt."""
    service, answers = Service(setup.kernel), asyncio.Event()
    setup.agent.script["create"] = [answers, Unavailable("the reply was lost")]
    if heard:
        answers.set()
    envelope = load(await created(setup, service, None if heard else Hasty()))
    assert envelope is not None
    assert envelope.parked is not None
    answers.set()
    await until(lambda: not setup.kernel.detached)
    assert setup.agent.asked == ["create"]
    setup.agent.script["find"] = [JOB]
    setup.agent.script["get"] = [RUNNING, STOPPED]
    service.abandon()
    assert await setup.kernel.detached.drain(60) == 0
    assert setup.agent.asked.count("cancel") == 1


@pytest.mark.usefixtures("asked_once")
async def test_what_was_not_answered_is_looked_for_once_though_a_stop_asks_twice(
    setup: Setup,
) -> None:
    service = Service(setup.kernel)
    setup.agent.script["create"] = [Unavailable("the reply was lost")]
    await created(setup, service)
    setup.agent.script["find"] = [JOB]
    setup.agent.script["get"] = [RUNNING, STOPPED]
    service.abandon()
    await asked_for(setup, "cancel")
    service.abandon()
    assert await setup.kernel.detached.drain(60) == 0
    assert setup.agent.asked.count("find") == 1
    assert setup.agent.asked.count("cancel") == 1


@pytest.mark.usefixtures("asked_once")
@pytest.mark.parametrize("prefix", [PREFIX, "s3://bucket/e/n/data/1"])
async def test_what_was_not_answered_is_not_looked_for_once_it_was_settled(
    setup: Setup, prefix: str
) -> None:
    """By the same create, repeated, or by the next attempt's."""
    service = Service(setup.kernel)
    setup.agent.script["create"] = [Unavailable("the reply was lost")]
    await created(setup, service)
    setup.agent.script["create"] = [JOB]
    attempt = int(prefix[-1])
    meta = await created(setup, service, request=setup.request(prefix, attempt=attempt))
    setup.agent.script["get"] = [SUCCEEDED]
    request = JobRequest("scripted", meta, prefix)
    await service.get(request, within(60), rpc(setup, "GetTask"))
    asked = list(setup.agent.asked)
    service.abandon()
    assert await setup.kernel.detached.drain(60) == 0
    assert setup.agent.asked == asked


@pytest.mark.parametrize("elsewhere", [True, False])
async def test_a_cancel_has_what_the_jobs_connection_sent(setup: Setup, elsewhere: bool) -> None:
    """Also where the job was created elsewhere, and polled here alone."""
    service = Service(setup.kernel)
    creator = Service(setup.kernel) if elsewhere else service
    meta = await created(setup, creator, request=replace(setup.request(), connection=SENT))
    if elsewhere:
        assert await polled(setup, service, meta, SENT) is Phase.RUNNING
    setup.agent.script["get"] = [RUNNING, STOPPED]
    service.abandon()
    assert await setup.kernel.detached.drain(60) == 0
    assert setup.agent.about["secret"] == ["s3cret-value"]


async def test_a_job_with_a_connection_that_has_ended_is_not_even_looked_at(setup: Setup) -> None:
    service = Service(setup.kernel)
    meta = await created(setup, service, request=replace(setup.request(), connection=SENT))
    setup.agent.script["get"] = [SUCCEEDED]
    assert await polled(setup, service, meta, SENT) is Phase.SUCCEEDED
    asked = list(setup.agent.asked)
    service.abandon()
    assert await setup.kernel.detached.drain(60) == 0
    assert setup.agent.asked == asked


async def test_a_server_for_all_keeps_no_jobs_with_what_their_connections_sent(
    setup: Setup,
) -> None:
    setup.kernel.private = False
    service = Service(setup.kernel)
    meta = await created(setup, service, request=replace(setup.request(), connection=SENT))
    await polled(setup, service, meta, SENT)
    asked = list(setup.agent.asked)
    service.abandon()
    assert await setup.kernel.detached.drain(60) == 0
    assert setup.agent.asked == asked


async def test_a_page_of_a_log_shows_no_line_of_a_key(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ["-----BEGIN PRIVATE KEY-----", "MIIEcanary", "-----END PRIVATE KEY-----"]

    async def logs(job: Job, call: Call, token: str, lines: int) -> LogPage:
        return LogPage([LogLine(line, system=True) for line in key], next="1")

    monkeypatch.setattr(setup.agent, "logs", logs)
    service = Service(setup.kernel)
    request = JobRequest("scripted", await created(setup, service))
    page = await service.logs(request, "", 3, rpc(setup, "GetTaskLogs"))
    assert page == LogPage([LogLine("[redacted]", system=True)] * 3, next="1")
