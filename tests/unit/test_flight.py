"""A flight is shared by its callers, outlives them, and is not forgotten."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.unit.kernel_setup import Hasty, Numbered, Setup, made_for, read_back, until, within

from flyteagents import Forbidden, Idempotency, InvalidTask, Phase, Unavailable, VendorError
from flyteagents._kernel import call, detached, flights
from flyteagents._kernel.create import Creating
from flyteagents._kernel.deadline import Deadline
from flyteagents._kernel.envelope import Envelope
from flyteagents._kernel.flight import Flight, Stage
from flyteagents._telemetry.providers import Telemetry

JOB = Numbered(id="job-1")


def begin(setup: Setup, seconds: float = 60.0, **of: Any) -> Flight:
    request = setup.request(**of)
    return setup.flights.start(setup.served, request.read(), request, within(seconds))


async def given_up(setup: Setup, flight: Flight) -> bool:
    """Its caller waits until the vendor has been asked, and a moment longer."""
    await until(lambda: setup.agent.asked)
    return await setup.flights.wait(flight, Hasty())


async def ends(flight: Flight) -> None:
    await asyncio.wait({flight.work})
    await asyncio.sleep(0)  # what is called back when it has landed


async def test_it_submits_and_lands(setup: Setup) -> None:
    flight = begin(setup)
    assert await setup.flights.wait(flight, within(60))
    assert flight.work.result() == made_for(setup, 0)
    assert setup.flights.under_way(flight.key) is None
    assert not flight.is_unheard()


async def test_a_call_that_comes_as_the_flight_lands_gets_its_job(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.agent.script["create"] = [JOB, Numbered(id="job-2")]
    creating = Creating(setup.kernel, setup.flights)
    request, key = setup.request(), setup.task().key
    late: list[asyncio.Task[Envelope]] = []
    wait = setup.flights.wait

    def create() -> asyncio.Task[Envelope]:
        return asyncio.create_task(read_back(creating.create(request, key, "", within(60))))

    async def waited(flight: Flight, deadline: Deadline) -> bool:
        # Called back before who waits is: so it comes between the landing and the answer.
        flight.work.add_done_callback(lambda _: late.append(create()))
        return await wait(flight, deadline)

    monkeypatch.setattr(setup.flights, "wait", waited)
    assert (await create()).job == {"id": "job-1"}
    assert (await late[0]).job == {"id": "job-1"}
    assert setup.agent.asked == ["create"]


async def test_a_submit_outlives_its_callers_and_sends_nothing_new(setup: Setup) -> None:
    answers = asyncio.Event()
    setup.agent.script["create"] = [answers, Unavailable("not now"), JOB]
    flight = begin(setup)
    assert not await given_up(setup, flight)
    assert not flight.work.done()
    assert flight.budget.left == 0
    answers.set()
    await ends(flight)
    assert isinstance(flight.work.exception(), Unavailable)
    assert setup.agent.asked == ["create"]


async def test_a_new_caller_opens_the_budget_again(setup: Setup) -> None:
    answers = asyncio.Event()
    setup.agent.script["create"] = [answers, Unavailable("not now"), JOB]
    flight = begin(setup)
    await given_up(setup, flight)
    second = asyncio.create_task(setup.flights.wait(flight, within(60)))
    await asyncio.sleep(0)
    answers.set()
    assert await second
    assert flight.work.result() == made_for(setup, 0)


@pytest.mark.parametrize(("idempotency", "tries"), [("vendor", 2), ("lookup", 1), ("none", 1)])
async def test_only_what_the_vendor_dedupes_is_submitted_again(
    quiet_telemetry: Telemetry, idempotency: Idempotency, tries: int
) -> None:
    setup = Setup(quiet_telemetry, idempotency)
    setup.agent.script["create"] = [Unavailable("not now"), JOB]
    flight = begin(setup)
    await setup.flights.wait(flight, within(60))
    assert setup.agent.asked.count("create") == tries


async def test_a_job_that_is_found_is_not_created(quiet_telemetry: Telemetry) -> None:
    setup = Setup(quiet_telemetry, "lookup")
    setup.agent.script["find"] = [JOB]
    flight = begin(setup)
    await setup.flights.wait(flight, within(60))
    assert setup.agent.asked == ["find"]


async def unheard(setup: Setup, **of: Any) -> Flight:
    """A flight whose job is named when its caller has gone."""
    answers = asyncio.Event()
    setup.agent.script["create"] = [answers, JOB]
    flight = begin(setup, **of)
    await given_up(setup, flight)
    answers.set()
    await ends(flight)
    return flight


async def test_a_job_named_unheard_is_known_to_the_next_attempt_once(setup: Setup) -> None:
    flight = await unheard(setup)
    assert setup.flights.just_named(flight.key, setup.task()) == made_for(setup, 0)
    assert setup.flights.just_named(flight.key, setup.task()) is None
    assert "cancel" not in setup.agent.asked


async def test_a_job_named_unheard_is_not_taken_for_other_work(setup: Setup) -> None:
    flight = await unheard(setup)
    assert setup.flights.just_named(flight.key, setup.task(statement="SELECT 2")) is None


async def test_a_job_named_unheard_counts_for_a_moment(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    flight = await unheard(setup)
    monkeypatch.setattr(flights, "FRESH", 0.0)
    time.sleep(0.001)  # noqa: ASYNC251 # a moment
    assert setup.flights.just_named(flight.key, setup.task()) is None


async def test_a_job_that_no_attempt_can_find_is_cancelled(setup: Setup) -> None:
    await unheard(setup, generation=2, retries=0)
    await until(lambda: "cancel" in setup.agent.asked)
    assert setup.agent.asked[:3] == ["create", "get", "cancel"]


async def test_a_job_of_an_agent_without_idempotency_is_cancelled(
    quiet_telemetry: Telemetry,
) -> None:
    setup = Setup(quiet_telemetry, "none")
    await unheard(setup)
    await until(lambda: "cancel" in setup.agent.asked)


async def test_a_job_that_was_told_unconfirmed_is_left_to_its_polls(setup: Setup) -> None:
    answers = asyncio.Event()
    setup.agent.script["create"] = [answers, JOB]
    flight = begin(setup, generation=2, retries=0)
    await given_up(setup, flight)
    setup.flights.was_told_unconfirmed(flight, "why")
    answers.set()
    await ends(flight)
    assert setup.agent.asked == ["create"]


@pytest.mark.parametrize(
    ("error", "phase"),
    [(InvalidTask("bad SQL"), Phase.FAILED), (Forbidden("you may not"), Phase.FAILED)],
)
async def test_a_no_after_an_unconfirmed_answer_is_kept_for_the_polls(
    setup: Setup, error: Exception, phase: Phase
) -> None:
    answers = asyncio.Event()
    setup.agent.script["create"] = [answers, error]
    flight = begin(setup)
    await given_up(setup, flight)
    setup.flights.was_told_unconfirmed(flight, "why")
    answers.set()
    await ends(flight)
    end = setup.kernel.soft.late_ends.get(flight.key)
    assert end is not None
    assert (end.phase, end.message) == (phase, str(error))


async def test_who_finds_no_room_is_told_what_it_waited_for(setup: Setup) -> None:
    setup.served.creates.held = setup.served.creates.limit
    flight = begin(setup, seconds=0.01)
    assert flight.stage is Stage.QUEUED
    await asyncio.wait({flight.work})
    assert "64 creates are under way" in str(flight.work.exception())
    assert setup.agent.asked == []


@pytest.mark.parametrize(
    ("reached", "says"),
    [
        (Stage.QUEUED, "creates are under way"),
        (Stage.SETTLING, "an earlier attempt's job is not settled yet"),
        (Stage.SUBMITTING, "the vendor did not answer in time"),
    ],
)
async def test_each_stage_says_what_a_late_answer_waited_for(
    setup: Setup, reached: Stage, says: str
) -> None:
    request = setup.request()
    flight = Flight(setup.served, request.read(), request, within(60))
    flight.stage = reached
    assert says in flight.waits_for


@pytest.mark.parametrize(
    ("generation", "attempt", "last"), [(1, 9, False), (2, 2, False), (2, 3, True)]
)
async def test_only_flyte_2_tells_which_attempt_is_the_last(
    setup: Setup, generation: int, attempt: int, last: bool
) -> None:
    task = setup.task(attempt=attempt, retries=3)
    request = setup.request(generation=generation)
    assert Flight(setup.served, task, request, within(60)).last_attempt is last


# A create that was answered before its vendor had.


@pytest.fixture
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detached, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(detached, "LAST_PAUSE", 0.002)
    monkeypatch.setattr(flights, "LAST_PAUSE", 0.002)  # for its place among the creates


async def told_early(setup: Setup, *answers: object, **of: Any) -> Flight:
    """A flight whose caller got a handle; then its first submit is answered as told, and so on."""
    held = asyncio.Event()
    setup.agent.script["create"] = [held, *answers]
    flight = begin(setup, **of)
    await given_up(setup, flight)
    setup.flights.was_told_unconfirmed(flight, "no answer yet")
    held.set()
    await ends(flight)
    return flight


async def lands(setup: Setup, flight: Flight) -> None:
    while setup.flights.under_way(flight.key) is not None:
        await ends(flight)


@pytest.mark.usefixtures("in_a_hurry")
async def test_submitting_goes_on_until_the_vendor_has_said_yes(setup: Setup) -> None:
    failures = [Unavailable("down")] * 5
    flight = await told_early(setup, *failures, JOB)
    await lands(setup, flight)
    assert flight.work.result() == made_for(setup, 0)
    assert setup.agent.asked == ["create"] * 6
    assert setup.kernel.soft.troubles.get(flight.key) == "down"


@pytest.mark.usefixtures("in_a_hurry", "asked_once")
async def test_submitting_goes_on_also_when_it_had_ended_before_the_answer(setup: Setup) -> None:
    setup.agent.script["create"] = [Unavailable("down"), Unavailable("down"), JOB]
    flight = begin(setup)
    assert await setup.flights.wait(flight, within(60))
    setup.flights.was_told_unconfirmed(flight, "down")
    await lands(setup, flight)
    assert flight.work.result() == made_for(setup, 0)


@pytest.mark.usefixtures("in_a_hurry")
async def test_submitting_goes_on_until_the_vendor_has_said_no(setup: Setup) -> None:
    flight = await told_early(setup, Unavailable("down"), InvalidTask("bad SQL"))
    await lands(setup, flight)
    end = setup.kernel.soft.late_ends.get(flight.key)
    assert end is not None
    assert (end.phase, end.message) == (Phase.FAILED, "bad SQL")


@pytest.mark.usefixtures("in_a_hurry")
async def test_what_is_not_wanted_any_more_is_not_submitted_again(setup: Setup) -> None:
    flight = await told_early(setup, Unavailable("down"))
    setup.flights.is_unwanted(flight.key)
    await lands(setup, flight)
    assert setup.agent.asked.count("create") < 5


@pytest.mark.usefixtures("in_a_hurry")
async def test_submitting_ends_when_the_job_is_no_longer_young(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flyteagents._kernel.flight.YOUNG", 0.02)
    flight = await told_early(setup, Unavailable("down"))
    await lands(setup, flight)
    assert isinstance(flight.work.exception(), VendorError)


@pytest.mark.usefixtures("in_a_hurry")
async def test_what_a_vendor_does_not_dedupe_is_not_submitted_again(
    quiet_telemetry: Telemetry,
) -> None:
    setup = Setup(quiet_telemetry, "lookup")
    flight = await told_early(setup, Unavailable("down"))
    await lands(setup, flight)
    assert setup.agent.asked == ["find", "create"]


async def test_an_answer_that_comes_too_late_tells_what_the_vendor_said_before(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.agent.script["create"] = [Unavailable("slow down"), asyncio.Event()]
    monkeypatch.setattr(call, "backoff", lambda tries, asked: 0.0)
    creating = Creating(setup.kernel, setup.flights)
    envelope = await read_back(creating.create(setup.request(), setup.task().key, "", Hasty()))
    assert envelope.parked is not None
    assert envelope.parked.message == "scripted: the vendor did not answer in time: slow down"


@pytest.mark.usefixtures("in_a_hurry")
async def test_a_submit_does_not_go_on_in_a_drain(setup: Setup) -> None:
    flight = await told_early(setup, Unavailable("down"))
    setup.kernel.detached.draining = True
    await ends(flight)
    assert len(setup.kernel.detached) == 0
    assert setup.agent.asked == ["create"]
