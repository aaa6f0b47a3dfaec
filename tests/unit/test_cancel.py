"""A cancel looks first, asks once, watches the job stop, and goes on without its caller."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.kernel_setup import RUNNING, SUCCEEDED, Hasty, Setup, within

from flyteagents import Forbidden, JobNotFound, Phase, Status, Unavailable
from flyteagents._kernel import cancel
from flyteagents._kernel.answers import Refused
from flyteagents._kernel.cancel import dying
from flyteagents._kernel.deadline import Deadline
from flyteagents._kernel.envelope import dump
from flyteagents._kernel.open_job import YOUNG, OpenJob
from flyteagents._kernel.requests import JobRequest
from flyteagents._kernel.service import Service
from flyteagents._kernel.settings import KernelSettings
from flyteagents._telemetry.tracing import Rpc

STOPPED = Status(Phase.ABORTED)
STOPPING = Status(Phase.RUNNING, cancelling=True)
OLD = YOUNG + 1


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancel, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(cancel, "LAST_PAUSE", 0.001)


async def refused(setup: Setup, opened: OpenJob, deadline: Deadline | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        await setup.cancelling.delete(opened, deadline or Hasty())
    return caught.value


async def test_it_looks_asks_and_watches(setup: Setup) -> None:
    setup.agent.script["get"] = [RUNNING, STOPPING, STOPPED]
    await setup.cancelling.delete(setup.opened(), within(60))
    assert setup.agent.asked == ["get", "cancel", "get", "get"]


@pytest.mark.parametrize("ended", [SUCCEEDED, STOPPED, Status(Phase.FAILED)])
async def test_a_job_that_has_ended_is_left_alone(setup: Setup, ended: Status) -> None:
    setup.agent.script["get"] = [ended]
    await setup.cancelling.delete(setup.opened(), within(60))
    assert setup.agent.asked == ["get"]


async def test_a_job_that_is_being_stopped_is_not_asked_to_stop(setup: Setup) -> None:
    setup.agent.script["get"] = [STOPPING, STOPPED]
    await setup.cancelling.delete(setup.opened(), within(60))
    assert "cancel" not in setup.agent.asked


async def test_a_job_that_cannot_be_seen_is_stopped_all_the_same(setup: Setup) -> None:
    setup.agent.script["get"] = [ValueError("a bug"), STOPPED]
    await setup.cancelling.delete(setup.opened(), within(60))
    assert setup.agent.asked == ["get", "cancel", "get"]


async def test_a_vendor_that_fails_is_asked_again(setup: Setup) -> None:
    setup.agent.script["get"] = [RUNNING, RUNNING, STOPPED]
    setup.agent.script["cancel"] = [Unavailable("not now"), None]
    await setup.cancelling.delete(setup.opened(), within(60))
    assert setup.agent.asked.count("cancel") == 2


async def test_what_the_vendor_has_not_accepted_is_refused_and_goes_on(setup: Setup) -> None:
    opened, accepts = setup.opened(), asyncio.Event()
    setup.agent.script["cancel"] = [accepts, None]
    error = await refused(setup, opened)
    assert error.code == "UNAVAILABLE"
    assert "not accepted" in error.message
    setup.agent.script["get"] = [STOPPED]
    accepts.set()
    assert opened.seen.cancel is not None
    await opened.seen.cancel


async def test_what_is_stopping_is_refused_once_and_then_ok(setup: Setup) -> None:
    opened = setup.opened()
    assert "stopping" in (await refused(setup, opened)).message
    before = setup.counted("cancels_unconfirmed").get(("scripted", "still stopping"), 0)
    await setup.cancelling.delete(opened, Hasty())
    after = setup.counted("cancels_unconfirmed")["scripted", "still stopping"]
    assert after - before == 1


async def test_callers_that_come_again_share_one_cancel(setup: Setup) -> None:
    opened, looks = setup.opened(), asyncio.Event()
    setup.agent.script["get"] = [looks, STOPPED]
    calls = [asyncio.create_task(setup.cancelling.delete(opened, within(60))) for _ in range(3)]
    await asyncio.sleep(0)
    looks.set()
    await asyncio.gather(*calls)
    assert setup.agent.asked == ["get"]


async def test_a_job_is_dying_while_it_is_being_stopped(setup: Setup) -> None:
    opened, looks = setup.opened(), asyncio.Event()
    setup.agent.script["get"] = [looks, STOPPED]
    stopping = setup.cancelling.detach(opened)
    await asyncio.sleep(0)
    assert dying(setup.kernel, setup.served, opened.job)
    looks.set()
    await stopping
    assert not dying(setup.kernel, setup.served, opened.job)


async def test_a_cancel_for_a_tenant_that_is_not_served_is_ok_and_counted(setup: Setup) -> None:
    setup.kernel.settings = KernelSettings(allow=("other/*",))
    before = setup.counted("cancels_unconfirmed").get(("scripted", "not served"), 0)
    request = JobRequest("scripted", dump(setup.opened().envelope))
    rpc = Rpc(setup.kernel.telemetry.tracing, "service/DeleteTask")
    why = await Service(setup.kernel).delete(request, within(60), rpc)
    assert why.startswith("this service does not serve ")
    assert setup.counted("cancels_unconfirmed")["scripted", "not served"] == before + 1
    assert setup.agent.asked == []


async def test_what_is_forbidden_is_ok_and_counted(setup: Setup) -> None:
    setup.agent.script["cancel"] = [Forbidden("you may not")]
    before = setup.counted("cancels_unconfirmed").get(("scripted", "forbidden"), 0)
    assert await setup.cancelling.delete(setup.opened(), within(60)) == "you may not"
    assert setup.counted("cancels_unconfirmed")["scripted", "forbidden"] == before + 1


async def test_a_refusal_to_show_a_job_that_is_stopping_is_told_as_that(setup: Setup) -> None:
    setup.agent.script["get"] = [RUNNING, Forbidden("you may not look")]
    why = await setup.cancelling.delete(setup.opened(), within(60))
    said = "its vendor took the cancel, and does not say whether it stopped: you may not look"
    assert why == said


async def test_why_a_cancel_is_not_accepted_is_told_as_long_as_it_is_so(setup: Setup) -> None:
    opened, later = setup.opened(), asyncio.Event()
    setup.agent.script["cancel"] = [Unavailable("not now"), later, None]
    error = await refused(setup, opened)
    assert error.message.endswith("the vendor has not accepted the cancel: not now")
    setup.agent.script["get"] = [STOPPED]
    later.set()
    assert await setup.cancelling.delete(opened, within(60)) == ""


async def test_a_bug_in_cancel_is_told(setup: Setup) -> None:
    setup.agent.script["cancel"] = [ValueError("a bug")]
    error = await refused(setup, setup.opened(), within(60))
    assert error.code == "INTERNAL"
    assert "ValueError" in error.message


@pytest.mark.parametrize(("age", "unconfirmed"), [(OLD, False), (OLD, True), (0.0, False)])
async def test_a_job_that_is_not_there_is_ok(setup: Setup, age: float, unconfirmed: bool) -> None:
    setup.agent.script["get"] = [JobNotFound("no such job")]
    setup.agent.script["cancel"] = [JobNotFound("no such job")]
    await setup.cancelling.delete(setup.opened(age=age, unconfirmed=unconfirmed), within(60))


async def test_a_drain_does_not_wait_to_see_a_job_stop(setup: Setup) -> None:
    opened = setup.opened()
    setup.kernel.detached.draining = True
    await setup.cancelling.delete(opened, within(60))
    assert setup.agent.asked == ["get", "cancel"]


@pytest.mark.parametrize("accepts_anything", [True, False])
async def test_a_job_that_arrives_after_its_cancel_is_stopped(
    setup: Setup, accepts_anything: bool
) -> None:
    missing = JobNotFound("not yet")
    setup.agent.script["get"] = [missing] * 100 + [RUNNING, STOPPED]
    if not accepts_anything:
        setup.agent.script["cancel"] = [missing, None]
    opened = setup.opened(unconfirmed=True)
    await setup.cancelling.delete(opened, Hasty())  # answered OK: there is nothing to stop
    assert opened.seen.cancel is not None
    await opened.seen.cancel
    assert setup.agent.asked[-3:] == ["get", "cancel", "get"]
