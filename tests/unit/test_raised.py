"""Whatever an agent raises, its call is answered, the failure is told, and the server goes on."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

import pytest
from tests.unit.kernel_setup import (
    RUNNING,
    Numbered,
    Scripted,
    Setup,
    read_back,
    within,
)

from flyteagents import AgentError, Call, InvalidTask, Phase, Status, Throttled, Unavailable
from flyteagents._app import _isolate
from flyteagents._errors import text_of
from flyteagents._kernel import cancel
from flyteagents._kernel.answers import Refused
from flyteagents._kernel.call import ask
from flyteagents._kernel.create import Creating
from flyteagents._kernel.lane import Lane
from flyteagents._kernel.poll import Polling
from flyteagents._vendor.budget import Budget

counts_cancels = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Python 3.10 does not tell whose cancel it was"
)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


class Bare(Unavailable):
    """As an author writes it who forgets the base's `__init__`."""

    def __init__(self, reply: object) -> None:
        self.reply = reply


def odd(message: Any, **of: Any) -> AgentError:
    return Unavailable(message, **of)


RAISED = [
    pytest.param(odd(ValueError("not a text")), "not a text", id="an exception as the text"),
    pytest.param(odd("no", code=503), "[P_503] no", id="a number as the code"),
    pytest.param(Bare(b"reply"), "Bare", id="no text"),
    pytest.param(Unprintable(), "failed with Unprintable", id="a text that cannot be made"),
    pytest.param(SystemExit(3), "failed with RuntimeError", id="an exit"),
    pytest.param(KeyboardInterrupt(), "failed with RuntimeError", id="an interrupt"),
    pytest.param(
        GeneratorExit(), "failed with RuntimeError", id="a generator's end", marks=counts_cancels
    ),
    pytest.param(
        asyncio.CancelledError(), "failed with RuntimeError", id="a cancel", marks=counts_cancels
    ),
]


@pytest.mark.parametrize(("raised", "text"), RAISED)
async def test_a_poll_that_raises_anything_is_answered_and_counts_as_failed(
    setup: Setup, raised: BaseException, text: str
) -> None:
    opened, polling = setup.opened(), Polling(setup.kernel, setup.cancelling, setup.flights.resume)
    setup.agent.script["get"] = [raised]
    for failed in (1, 2):
        answer = await polling.poll(opened, within(60))
        assert answer.phase is Phase.INITIALIZING
        assert text in answer.message
        assert opened.seen.failures.count == failed


@pytest.mark.parametrize(
    "raised",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        pytest.param(GeneratorExit(), marks=counts_cancels),
        pytest.param(asyncio.CancelledError(), marks=counts_cancels),
    ],
)
async def test_a_cancel_that_raises_what_is_no_error_is_not_taken_for_done(
    setup: Setup, raised: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancel, "FIRST_PAUSE", 0.001)
    setup.agent.script["cancel"] = [raised]
    with pytest.raises(Refused, match="failed with RuntimeError in cancel"):
        await setup.cancelling.delete(setup.opened(), within(60))
    assert setup.counted("cancels_unconfirmed")["scripted", "failed"]


@counts_cancels
async def test_a_call_that_is_cancelled_from_outside_ends_as_cancelled(setup: Setup) -> None:
    setup.agent.script["get"] = [asyncio.Event()]
    call = setup.opened().call("get", Budget(time.monotonic() + 60))
    asking = asyncio.ensure_future(ask(call))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


def test_a_call_that_is_thrown_away_with_its_loop_ends_quietly(setup: Setup) -> None:
    setup.agent.script["get"] = [asyncio.Event()]
    asking = ask(setup.opened().call("get", Budget(time.monotonic() + 60)))
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(asking)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    waiting._log_destroy_pending = False  # type: ignore[attr-defined] # asyncio says so as well
    waiting.get_coro().close()  # as Python does with what nobody holds


@pytest.mark.usefixtures("asked_once")
@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("method", ["fingerprint", "warnings", "handle"])
async def test_an_exit_in_a_plain_method_is_told_and_ends_no_server(
    setup: Setup,
    method: str,
    raised: BaseException,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def exits(*_: object) -> None:
        raise raised

    monkeypatch.setattr(setup.agent, method, exits)
    monkeypatch.setattr(setup.served, "warns_of_keys_alone", False)
    setup.agent.script["create"] = [
        Unavailable("away") if method == "handle" else Numbered(id="job-1")
    ]
    creating = Creating(setup.kernel, setup.flights)
    created = read_back(creating.create(setup.request(), setup.task().key, "", within(60)))
    if method == "fingerprint":  # without it nobody knows what the job does
        with pytest.raises(Refused, match="in create"):
            await created
    else:
        assert ((await created).job is None) == (method == "handle")
    assert type(raised).__name__ in caplog.text


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt()])
async def test_an_exit_does_not_end_the_loop_that_an_agent_has_of_its_own(
    raised: BaseException,
) -> None:
    setup = Setup()
    await asyncio.to_thread(setup.served.isolate)
    setup.agent = setup.served.agent
    setup.agent.script["get"] = [raised, RUNNING]
    budget = Budget(time.monotonic() + 60)
    with pytest.raises(RuntimeError, match=f"{type(raised).__name__}, which is no error"):
        await ask(setup.opened().call("get", budget))
    assert await ask(setup.opened().call("get", budget), limit=1) is RUNNING
    await setup.served.close()


async def test_an_agent_that_is_moved_is_called_when_it_is_open() -> None:
    opened: list[bool] = []

    async def open_slowly() -> None:
        await asyncio.sleep(0.02)
        opened.append(True)

    async def so_far() -> int:
        return len(opened)

    lane = Lane("slow", open_slowly)
    try:
        assert await lane.run(so_far) == 1
    finally:
        await lane.close(open_slowly)


async def test_an_agent_that_cannot_be_opened_again_is_told_and_never_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class OpensOnce(Scripted):
        async def open(self) -> None:
            if threading.current_thread().name.startswith("flyteagents-lane"):
                raise OSError("its file is locked")

        async def get(self, job: Numbered, call: Call) -> Status:
            raise AssertionError

    setup = Setup(cls=OpensOnce)
    await asyncio.to_thread(setup.served.isolate)
    for _ in range(2):
        with pytest.raises(Unavailable, match="scripted could not be opened again"):
            await ask(setup.opened().call("get", Budget(time.monotonic() + 60)))
    (told,) = caplog.records
    assert told.message == "scripted cannot be opened on a loop of its own"
    assert "its file is locked" in caplog.text
    await setup.served.close()


def test_an_agent_that_cannot_be_made_again_stays_and_its_watch_goes_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = Setup()

    def fails(_: object) -> None:
        raise ValueError("there can be only one")

    monkeypatch.setattr(Scripted, "__init__", fails)
    _isolate([setup.served], "scripted", 1.0)
    assert not setup.served.place.lane.isolated
    assert "scripted stays where it is" in caplog.text
    assert "there can be only one" in caplog.text


@pytest.mark.parametrize("asked", ["5", -1.0, float("nan")])
def test_seconds_that_are_no_number_count_as_not_said(asked: Any) -> None:
    assert Throttled("slow", retry_after=asked).retry_after is None
    assert Throttled("slow", retry_after=5).retry_after == 5


def test_every_exception_has_a_text() -> None:
    assert text_of(Unprintable()) == "Unprintable"
    assert text_of(InvalidTask("why", code="c")) == "[c] why"
