"""Detached work whose end nobody hears is told in the log, with what may run on, and counted."""

from __future__ import annotations

import asyncio
import logging

import pytest
from tests.unit.kernel_setup import RUNNING, Hasty, Numbered, Setup, read_back, until, within
from tests.unit.test_flight import begin, ends, given_up
from tests.unit.test_lost import abandoned

from flyteagents import JobNotFound, Unavailable
from flyteagents._kernel import cancel
from flyteagents._kernel.answers import Refused
from flyteagents._kernel.create import Creating
from flyteagents._kernel.detached import Detached

JOB = Numbered(id="job-1")
BUG = ValueError("a bug")


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancel, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(cancel, "LAST_PAUSE", 0.001)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]


def still_runs(setup: Setup, why: str) -> float:
    return setup.counted("cancels_unconfirmed").get(("scripted", why), 0)


async def cancelled_alone(setup: Setup) -> None:
    """A cancel that no caller waits for."""
    cancelling = setup.cancelling.detach(setup.opened())
    await asyncio.wait({cancelling})


async def test_a_bug_that_ends_a_cancel_which_nobody_waits_for(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    before = still_runs(setup, "failed")
    setup.agent.script["cancel"] = [BUG]
    await cancelled_alone(setup)
    assert any("id='job-1'" in line and "may run on" in line for line in errors(caplog))
    assert any("scripted: cancel raised ValueError" in line for line in errors(caplog))
    assert still_runs(setup, "failed") == before + 1


async def test_a_vendor_that_refuses_a_cancel_to_the_end(
    setup: Setup, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancel, "PERSISTENCE", 0.02)
    before = still_runs(setup, "failed")
    setup.agent.script["cancel"] = [Unavailable("out of order")]
    await cancelled_alone(setup)
    assert any("may run on" in line and "out of order" in line for line in errors(caplog))
    assert still_runs(setup, "failed") == before + 1


async def test_a_job_that_does_not_stop(
    setup: Setup, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancel, "PERSISTENCE", 0.02)
    before = still_runs(setup, "not stopped")
    await cancelled_alone(setup)
    assert any("may run on: it did not stop" in line for line in errors(caplog))
    assert still_runs(setup, "not stopped") == before + 1


async def test_a_cancel_that_is_heard_is_told_once(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    setup.agent.script["cancel"] = [BUG]
    with pytest.raises(Refused, match="error id"):
        await setup.cancelling.delete(setup.opened(), within(60))
    assert len([line for line in errors(caplog) if "raised ValueError" in line]) == 1


async def test_a_cancel_that_a_drain_gives_up(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    before = still_runs(setup, "drained")
    setup.agent.script["get"] = [JobNotFound("not yet")]
    setup.cancelling.detach(setup.opened(unconfirmed=True))
    assert await setup.kernel.detached.drain(0.01) == 1
    assert any("may run on: the drain" in line for line in errors(caplog))
    assert still_runs(setup, "drained") == before + 1


async def test_a_submit_that_a_drain_gives_up(setup: Setup) -> None:
    before = abandoned(setup)
    setup.agent.script["create"] = [asyncio.Event(), JOB]
    await given_up(setup, begin(setup))
    assert await setup.kernel.detached.drain(0.01) == 1
    assert abandoned(setup) == before + 1


@pytest.mark.parametrize("heard", [True, False])
async def test_a_bug_after_the_vendors_yes_leaves_no_job_where_no_attempt_follows(
    setup: Setup, caplog: pytest.LogCaptureFixture, heard: bool
) -> None:
    held = asyncio.Event()
    setup.agent.script["create"] = [held, BUG]
    setup.agent.script["find"] = [JOB]
    if heard:
        held.set()
        request = setup.request(generation=2, retries=0)
        with pytest.raises(Refused):
            await Creating(setup.kernel, setup.flights).create(
                request, setup.task().key, "", within(60)
            )
    else:
        flight = begin(setup, generation=2, retries=0)
        await given_up(setup, flight)
        held.set()
        await ends(flight)
    await until(lambda: "cancel" in setup.agent.asked)
    assert setup.agent.asked == ["create", "find", "get", "cancel"]
    assert len([line for line in errors(caplog) if "create raised ValueError" in line]) == 1


async def test_a_bug_in_a_submit_that_was_answered_before_its_vendor_had(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    setup.agent.named = JOB
    held = asyncio.Event()
    setup.agent.script["create"] = [held, BUG]
    key = setup.task().key
    creating = Creating(setup.kernel, setup.flights)
    assert (await read_back(creating.create(setup.request(), key, "", Hasty()))).unconfirmed
    held.set()
    await until(lambda: not setup.kernel.detached)
    assert any("create raised ValueError" in line for line in errors(caplog))
    assert "error id" in (setup.kernel.soft.troubles.get(key.hex) or "")


async def test_whatever_else_ends_early(caplog: pytest.LogCaptureFixture) -> None:
    async def looks_for_a_job() -> None:
        raise BUG

    await asyncio.wait({Detached().start(looks_for_a_job())})
    await asyncio.sleep(0)
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert "looks_for_a_job ended by an error" in record.getMessage()
    assert record.exc_info is not None


async def test_what_runs_to_its_end_is_not_told(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    setup.agent.script["get"] = [RUNNING, Unavailable("busy"), JobNotFound("gone")]
    await setup.cancelling.delete(setup.opened(), within(60))
    assert errors(caplog) == []
