"""A vendor that answers byte for byte what it has answered before is not read again."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from tests.unit.kernel_setup import Numbered, Scripted, Setup, until, within

from flyteagents import Call, JobNotFound, Link, Phase, Reply, Status, Unavailable
from flyteagents._kernel import poll
from flyteagents._kernel.answers import SMALL
from flyteagents._kernel.call import ask
from flyteagents._kernel.poll import Polling
from flyteagents._telemetry.providers import Telemetry
from flyteagents._vendor.budget import Budget


class Reading(Scripted):
    """Its script has the vendor's replies, and lists of them for polls that take several."""

    task_type = "scripted"

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    async def get(self, job: Numbered, call: Call) -> Status:
        given = await self._answer("get", job, call)
        for reply in given if isinstance(given, list) else [given]:
            if (same := call.unchanged(reply)) is not None:
                return same
        self.read.append(reply.text)
        status: Status = replace(RUNS, **reply.json())
        return status


RUNS = Status(Phase.RUNNING, info={"state": "on"})


def told(**fields: object) -> Reply:
    return Reply(200, {}, json.dumps(fields).encode())


@pytest.fixture
def setup(quiet_telemetry: Telemetry) -> Setup:
    return Setup(quiet_telemetry, cls=Reading)


@pytest.fixture
def polling(setup: Setup) -> Polling:
    return Polling(setup.kernel, setup.cancelling, setup.flights.resume)


def read(setup: Setup) -> list[str]:
    assert isinstance(setup.agent, Reading)
    return setup.agent.read


async def test_the_same_reply_is_the_same_answer(setup: Setup, polling: Polling) -> None:
    opened = setup.opened()
    setup.agent.script["get"] = [told(message="queued"), told(message="queued"), told(message="")]
    answers = [await polling.poll(opened, within(60)) for _ in range(4)]
    assert [answer.message for answer in answers] == ["queued", "queued", "", ""]
    assert [answer.info for answer in answers] == [{"state": "on"}] * 4
    assert read(setup) == ['{"message": "queued"}', '{"message": ""}']


async def test_a_reply_that_tells_the_phase_alone_is_read_once(
    setup: Setup, polling: Polling
) -> None:
    opened = setup.opened()
    setup.agent.script["get"] = [
        told(info={}),
        told(info={}, message=""),
        told(info={}, message=""),
    ]
    answers = [await polling.poll(opened, within(60)) for _ in range(4)]
    assert {id(answer) for answer in answers} == {id(answers[0])}
    assert len(read(setup)) == 2


async def test_the_same_body_with_another_status_is_read(setup: Setup, polling: Polling) -> None:
    opened, first = setup.opened(), told(message="queued")
    setup.agent.script["get"] = [first, replace(first, status=202)]
    for _ in range(2):
        await polling.poll(opened, within(60))
    assert len(read(setup)) == 2


async def test_of_several_replies_each_one_counts(setup: Setup, polling: Polling) -> None:
    opened, page = setup.opened(), told(message="page 2")
    setup.agent.script["get"] = [[told(message="1"), page], [told(message="2"), page]]
    for _ in range(2):
        await polling.poll(opened, within(60))
    assert len(read(setup)) == 2


async def test_each_job_has_its_own_last_reply(setup: Setup, polling: Polling) -> None:
    setup.agent.script["get"] = [told(message="queued")]
    for _ in range(2):
        await polling.poll(setup.opened(), within(60))
    assert len(read(setup)) == 2


async def test_a_failed_poll_between_ends_with_the_reply_of_before(
    setup: Setup, polling: Polling
) -> None:
    opened, reply = setup.opened(), told(message="queued")
    setup.agent.script["get"] = [reply, Unavailable("not now"), reply]
    answers = [await polling.poll(opened, within(60)) for _ in range(3)]
    assert "not now" in answers[1].message
    assert answers[2].message == "queued"
    assert opened.seen.failures.count == 0


@pytest.mark.parametrize("then", ["old", "new"])
async def test_a_poll_that_ends_after_its_time_sets_the_reply_and_its_answer_together(
    setup: Setup, polling: Polling, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    monkeypatch.setattr(poll, "QUICK", 0.001)
    opened, late = setup.opened(), asyncio.Event()
    replies = {name: told(message=name) for name in ("first", "old", "new")}
    setup.agent.script["get"] = [replies["first"], late, *map(replies.get, ("new", "old", then))]
    for _ in range(2):
        await polling.poll(opened, within(60))
    with monkeypatch.context() as later:
        later.setattr(poll, "OVERDUE", 0.0)
        await polling.poll(opened, within(60))
    assert (await polling.poll(opened, within(60))).message == "new"
    late.set()
    await until(lambda: not setup.served.left_behind)
    # Were only one of them set, either reply would be taken for the one of the other's answer.
    assert (await polling.poll(opened, within(60))).message == then
    assert (await polling.poll(opened, within(60))).message == then


async def test_a_job_that_was_missing_between_is_read_again(setup: Setup, polling: Polling) -> None:
    opened, reply = setup.opened(unconfirmed=True), told(message="queued")
    setup.agent.script["get"] = [reply, JobNotFound("no such job"), reply]
    answers = [await polling.poll(opened, within(60)) for _ in range(3)]
    assert answers[2].message == "queued"
    assert len(read(setup)) == 2


async def test_a_reply_that_could_not_be_read_is_read_again(setup: Setup, polling: Polling) -> None:
    opened = setup.opened()
    setup.agent.script["get"] = [told(message="queued"), told(nonsense=1)]
    for _ in range(3):
        await polling.poll(opened, within(60))
    assert len(read(setup)) == 3
    assert opened.seen.failures.count == 2


async def test_a_reply_is_read_again_as_long_as_its_links_cannot_be_made(
    setup: Setup, polling: Polling, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, link = setup.opened(), Link("job", "https://acme.example/1")
    setup.agent.script["get"] = [told(message="queued")]
    monkeypatch.setattr(setup.served, "linkless", False)
    monkeypatch.setattr(setup.agent, "links", lambda job: 1 / 0)
    await polling.poll(opened, within(60))
    monkeypatch.setattr(setup.agent, "links", lambda job: [link])
    for _ in range(2):
        answer = await polling.poll(opened, within(60))
        assert (answer.message, answer.links) == ("queued", (link,))


async def test_the_end_of_a_job_whose_outputs_are_not_kept_is_read_each_time(
    setup: Setup, polling: Polling
) -> None:
    opened, reply = setup.opened(), told()
    end = Status(Phase.SUCCEEDED, outputs={"o0": "x" * SMALL})

    async def get(job: Numbered, call: Call) -> Status:
        return call.unchanged(reply) or end

    setup.agent.get = get  # type: ignore[method-assign]
    for _ in range(2):
        answer = await polling.poll(opened, within(60))
        assert answer.outputs is not None
        assert len(answer.outputs) > SMALL


async def test_what_the_kernel_asks_for_itself_is_never_unchanged(
    setup: Setup, polling: Polling
) -> None:
    opened = setup.opened()
    setup.agent.script["get"] = [told(cancelling=True)]
    await polling.poll(opened, within(60))
    # As a cancel that looks whether the job has stopped.
    status = await ask(opened.call("get", Budget(within(60).until)))
    assert status.cancelling
