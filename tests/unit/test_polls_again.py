"""Polls that say again what the one before has said: nearly all of them."""

from __future__ import annotations

import sys

import pytest
from tests.unit.kernel_setup import RUNNING, Setup, within

from flyteagents import Link, Phase, Status
from flyteagents._kernel import kernel
from flyteagents._kernel.poll import Polling


@pytest.fixture
def polling(setup: Setup) -> Polling:
    return Polling(setup.kernel, setup.cancelling, setup.flights.resume)


async def test_an_answer_that_says_nothing_new_is_the_last_one(
    setup: Setup, polling: Polling
) -> None:
    opened = setup.opened()
    setup.agent.script["get"] = [
        RUNNING,
        RUNNING,
        Status(Phase.RUNNING, info={"place": 3}),
        Status(Phase.RUNNING, info={"place": 2}),
        Status(Phase.RUNNING, info={"place": 2}),
    ]
    answers = [await polling.poll(opened, within(60)) for _ in range(5)]
    assert answers[0] is answers[1]
    assert [answer.info for answer in answers[2:]] == [{"place": 3}, {"place": 2}, {"place": 2}]
    assert answers[3] is answers[4]


async def test_a_message_that_comes_later_is_told_and_taken_back(
    setup: Setup, polling: Polling
) -> None:
    opened = setup.opened()
    setup.agent.script["get"] = [
        RUNNING,
        Status(Phase.RUNNING, "almost done"),
        Status(Phase.RUNNING, "done"),
        RUNNING,
    ]
    answers = [await polling.poll(opened, within(60)) for _ in range(4)]
    assert [answer.message for answer in answers] == ["", "almost done", "done", ""]


async def test_links_that_could_not_be_made_are_tried_again(
    setup: Setup, polling: Polling, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, link = setup.opened(), Link("job", "https://acme.example/1")
    # As of an agent whose class has links, since those of others are not asked for again.
    monkeypatch.setattr(setup.served, "linkless", False)
    monkeypatch.setattr(setup.agent, "links", lambda job: 1 / 0)
    assert (await polling.poll(opened, within(60))).links == ()

    monkeypatch.setattr(setup.agent, "links", lambda job: [link])
    assert (await polling.poll(opened, within(60))).links == (link,)


async def test_a_bug_in_links_is_logged_once_in_a_while_for_all_jobs(
    setup: Setup,
    polling: Polling,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(setup.served, "linkless", False)
    monkeypatch.setattr(setup.agent, "links", lambda job: 1 / 0)
    for opened in (setup.opened(), setup.opened()):
        await polling.poll(opened, within(60))
        await polling.poll(opened, within(60))
    monkeypatch.setattr(setup.agent, "links", lambda job: sys.exit(3))
    await polling.poll(setup.opened(), within(60))
    told = [line.message for line in caplog.records]
    assert told == [
        f"scripted: links raised {kind}" for kind in ("ZeroDivisionError", "SystemExit")
    ]

    monkeypatch.setattr(kernel, "TOLD_AGAIN", 0.0)
    await polling.poll(setup.opened(), within(60))
    assert len(caplog.records) == 3


async def test_jobs_of_which_only_the_phase_is_told_have_one_answer_in_common(
    setup: Setup, polling: Polling
) -> None:
    one, two = [await polling.poll(setup.opened(), within(60)) for _ in range(2)]
    assert one is two


async def test_an_agent_that_counts_on_in_what_it_gave_says_something_new(
    setup: Setup, polling: Polling
) -> None:
    opened = setup.opened()
    step = {"done": 0}
    given = Status(Phase.RUNNING, info={"steps": [step]})
    setup.agent.script["get"] = [given]
    first = await polling.poll(opened, within(1))
    step["done"] = 1
    second = await polling.poll(opened, within(1))
    assert first.info == {"steps": [{"done": 0}]}
    assert second.info == {"steps": [{"done": 1}]}
