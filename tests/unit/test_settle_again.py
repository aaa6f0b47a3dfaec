"""How often earlier attempts are looked for: not once more in each attempt."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.kernel_setup import RUNNING, Numbered, Scripted, Setup, made_for, read_back, within
from tests.unit.test_settle import Others

from flyteagents import Call, Phase, Status, Throttled, Unavailable
from flyteagents._kernel import absence, settle
from flyteagents._kernel.absence import FOR_EVER, Absence, absent, never_sent
from flyteagents._kernel.create import Creating
from flyteagents._kernel.deadline import Deadline
from flyteagents._kernel.envelope import Envelope, dump
from flyteagents._kernel.flight import Flight, Stage
from flyteagents._kernel.open_job import YOUNG
from flyteagents._kernel.opening import know
from flyteagents._kernel.poll import Polling
from flyteagents._kernel.requests import JobRequest
from flyteagents._telemetry.providers import Telemetry

FAILED = Status(Phase.FAILED)
ATTEMPTS = 12


def prefix(number: int) -> str:
    return f"s3://bucket/e/n/data/{number}"


def flight_for(setup: Setup, number: int, seconds: float = 0.02) -> Flight:
    task = setup.task(prefix(number), attempt=number)
    return Flight(setup.served, task, setup.request(prefix(number)), within(seconds))


async def asked_by(setup: Setup, number: int) -> list[str]:
    """What the attempt of that number asks of the agent for the earlier ones."""
    before = len(setup.agent.asked)
    assert (
        await settle.settle(setup.kernel, flight_for(setup, number), Others(), setup.cancelling)
        is None
    )
    return setup.agent.asked[before:]


async def created(setup: Setup, number: int) -> Envelope:
    creating = Creating(setup.kernel, setup.flights)
    key = setup.task(prefix(number)).key
    request = setup.request(prefix(number), attempt=number)
    return await read_back(creating.create(request, key, "", Deadline(5)))


class Clock:
    """The time, as a test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(absence, "time", clock)
    return clock


@pytest.fixture
def looking(quiet_telemetry: Telemetry) -> Setup:
    return Setup(quiet_telemetry, "lookup")


async def test_of_many_attempts_that_failed_only_the_last_is_asked_for(setup: Setup) -> None:
    setup.agent.script["get"] = [FAILED]
    for number in range(1, ATTEMPTS):
        assert await asked_by(setup, number) == ["create", "get"]
        assert setup.agent.about["create"][-1].output_prefix == prefix(number - 1)


async def test_what_a_poll_saw_fail_is_not_asked_for_at_all(setup: Setup) -> None:
    setup.agent.script["get"] = [FAILED]
    polling = Polling(setup.kernel, setup.cancelling, setup.flights.resume)
    opened = setup.opened(key=setup.task(prefix(0)).key.hex)
    assert (await polling.poll(opened, Deadline(5))).phase is Phase.FAILED
    assert await asked_by(setup, 1) == []


async def test_what_a_cancel_saw_stop_is_not_asked_for_at_all(setup: Setup) -> None:
    setup.agent.script["get"] = [RUNNING, Status(Phase.ABORTED)]
    opened = setup.opened(key=setup.task(prefix(0)).key.hex)
    await setup.cancelling.delete(opened, Deadline(5))
    assert await asked_by(setup, 1) == []


async def test_of_a_job_that_was_taken_over_and_failed_it_is_the_maker_that_is_over(
    setup: Setup,
) -> None:
    setup.agent.script["get"] = [FAILED]
    polling = Polling(setup.kernel, setup.cancelling, setup.flights.resume)
    first, second = (setup.task(prefix(number)).key.hex for number in range(2))
    opened = setup.opened(key=second, made_with=first, adopted=True)
    await polling.poll(opened, Deadline(5))
    assert await asked_by(setup, 2) == ["create", "get"]
    assert setup.agent.about["create"][-1].output_prefix == prefix(1)


@pytest.mark.parametrize("seconds", [0.1, 5.0, 30.0])
async def test_of_many_attempts_that_were_lost_few_are_looked_for(
    looking: Setup, clock: Clock, seconds: float
) -> None:
    """Of each the first attempts after it look, and later ones ever more rarely."""
    looks = []
    for number in range(1, 80):
        looks.append(len(await asked_by(looking, number)))
        clock.now += seconds
    assert looks[:2] == [1, 2]
    assert max(looks) <= 8
    clock.now += YOUNG
    await asked_by(looking, 80)
    clock.now += 1.0
    assert len(await asked_by(looking, 81)) == 2


async def test_what_was_not_there_is_found_by_a_later_attempt(looking: Setup, clock: Clock) -> None:
    for number in range(1, 5):
        await asked_by(looking, number)
        clock.now += 5.0
    looking.agent.script["find"] = [Numbered(id="job-1")]
    flight = flight_for(looking, 5)
    made = await settle.settle(looking.kernel, flight, Others(), looking.cancelling)
    assert made == made_for(looking, 0)


async def test_one_look_is_enough_for_what_was_never_sent(looking: Setup, clock: Clock) -> None:
    looking.kernel.soft.absences.put(looking.task(prefix(0)).key.hex, never_sent())
    assert await asked_by(looking, 1) == ["find"]
    flight = flight_for(looking, 1)
    await settle.settle(looking.kernel, flight, Others(), looking.cancelling)
    assert looking.agent.asked == ["find"]
    assert flight.settled == 1


async def test_a_look_says_what_was_there_when_it_began(looking: Setup, clock: Clock) -> None:
    await asked_by(looking, 1)
    clock.now += YOUNG - 1
    answered = asyncio.Event()
    looking.agent.script["find"] = [answered, None]
    asking = asyncio.ensure_future(asked_by(looking, 1))
    await asyncio.sleep(0)
    clock.now += 2 * YOUNG
    answered.set()
    assert await asking == ["find"]
    assert await asked_by(looking, 1) == ["find"]
    assert await asked_by(looking, 1) == []


async def test_an_attempt_that_did_not_come_to_its_submit_was_never_sent(looking: Setup) -> None:
    looking.agent.script["find"] = [Unavailable("away")]
    envelope = await created(looking, 1)
    assert envelope.parked is not None
    there = looking.kernel.soft.absences.get(envelope.key)
    assert there is not None
    assert there.is_due
    assert Absence(there.first, absent().last).lasts


async def test_what_is_submitted_after_all_is_looked_for_more_than_once(
    looking: Setup, clock: Clock
) -> None:
    """The attempt was asked for again, when an earlier call for it had sent nothing."""
    task = looking.task(prefix(0))
    looking.kernel.soft.absences.put(task.key.hex, never_sent())
    looking.agent.script["create"] = [Unavailable("the reply was lost")]
    creating = Creating(looking.kernel, looking.flights)
    await read_back(creating.create(looking.request(prefix(0)), task.key, "", within(0.02)))
    clock.now += 1.0
    for number in (1, 2):  # each looks for all before it
        assert await asked_by(looking, number) == ["find"] * number
        clock.now += 1.0


async def test_another_replica_learns_from_an_envelope_where_to_begin(
    setup: Setup, quiet_telemetry: Telemetry
) -> None:
    setup.agent.script["get"] = [FAILED]
    for number in range(ATTEMPTS):
        envelope = await created(setup, number)
    assert envelope.settled == ATTEMPTS - 1
    other = Setup(quiet_telemetry)
    other.agent.script["get"] = [FAILED]
    know(other.kernel, JobRequest("scripted", dump(envelope), prefix(ATTEMPTS - 1)))
    assert await asked_by(other, ATTEMPTS) == ["create", "get"]


async def test_a_parked_attempt_tells_how_far_it_came(setup: Setup) -> None:
    setup.agent.script["get"] = [FAILED, FAILED, Unavailable("away")]
    request = setup.request(prefix(3), attempt=3)
    creating = Creating(setup.kernel, setup.flights)
    envelope = await read_back(
        creating.create(request, setup.task(prefix(3)).key, "", within(0.02))
    )
    assert envelope.parked is not None
    assert envelope.settled == 2


async def test_an_envelope_cannot_speak_of_attempts_after_its_own(setup: Setup) -> None:
    setup.agent.script["get"] = [FAILED]
    for number in (0, 2):
        setup.kernel.soft.settled.put(setup.task(prefix(number)).key.hex, 99)
    assert await asked_by(setup, 1) == ["create", "get"]
    assert (await created(setup, 1)).settled == 1
    assert (await created(setup, 2)).settled == 2


async def test_a_job_that_is_being_stopped_is_asked_for_again(setup: Setup) -> None:
    setup.agent.script["get"] = [Status(Phase.RUNNING, cancelling=True)]
    for _ in range(2):
        assert await asked_by(setup, 1) == ["create", "get"]


# Where every answer is late.


class Late(Scripted):
    """Asks its vendor only in time, as the HTTP client does."""

    async def get(self, job: Numbered, call: Call) -> Status:
        assert call.remaining > 0
        return await super().get(job, call)


async def test_a_job_that_is_named_too_late_is_the_next_attempts(
    quiet_telemetry: Telemetry,
) -> None:
    setup = Setup(quiet_telemetry, cls=Late)
    answered = asyncio.Event()
    setup.agent.script["create"] = [answered, Numbered(id="job-1")]
    creating = Creating(setup.kernel, setup.flights)
    key = setup.task(prefix(1)).key
    request = setup.request(prefix(1), attempt=1)
    parked = await read_back(creating.create(request, key, "", within(0.01)))
    assert parked.parked is not None
    answered.set()
    await setup.flights.under_way(key.hex).work  # type: ignore[union-attr] # it waits for the event
    setup.agent.asked.clear()
    assert (await created(setup, 2)).job == {"id": "job-1"}
    assert setup.agent.asked == []


async def test_what_one_attempt_has_begun_the_next_one_has_done(looking: Setup) -> None:
    """It lends the time of its callers, and takes over what comes of it."""
    answered = asyncio.Event()
    looking.agent.script["find"] = [answered, None]
    creating = Creating(looking.kernel, looking.flights)
    key = looking.task(prefix(1)).key
    request = looking.request(prefix(1), attempt=1)
    assert (await read_back(creating.create(request, key, "", within(0.01)))).parked is not None

    next_one = asyncio.ensure_future(created(looking, 2))
    await asyncio.sleep(0.01)
    answered.set()
    envelope = await next_one
    assert envelope.adopted
    assert envelope.made_with == key.hex
    # For attempt 0, and by attempt 1 for its own: none by attempt 2.
    assert looking.agent.asked == ["find", "find", "create"]


async def test_what_hangs_is_not_waited_for_by_all_that_follow(
    looking: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "JOINED", 0.0)
    others, first = Others(), flight_for(looking, 0)
    first.stage = Stage.SETTLING
    first.work = asyncio.get_running_loop().create_future()  # type: ignore[assignment] # is awaited
    others.flying[first.key] = first
    assert (
        await settle.settle(looking.kernel, flight_for(looking, 1), others, looking.cancelling)
        is None
    )
    first.work.cancel()


async def test_a_flight_has_the_time_of_a_later_attempts_callers_and_no_more(
    setup: Setup,
) -> None:
    flight, later = flight_for(setup, 0), flight_for(setup, 1, seconds=0.03)
    flight.work = asyncio.get_running_loop().create_future()  # type: ignore[assignment] # is awaited
    flight.budget.closed = True
    joined = asyncio.ensure_future(flight.join(later.budget))
    await asyncio.sleep(0)
    assert flight.budget.left > 0
    assert flight.budget.until == later.budget.until
    assert not await joined
    assert flight.budget.left == 0


async def test_what_is_to_be_cancelled_gets_no_more_time(setup: Setup) -> None:
    flight, later = flight_for(setup, 0), flight_for(setup, 1)
    flight.work = asyncio.get_running_loop().create_future()  # type: ignore[assignment] # is awaited
    flight.wanted, flight.budget.closed = False, True
    joined = asyncio.ensure_future(flight.join(later.budget))
    await asyncio.sleep(0)
    assert flight.budget.closed
    assert not await joined


async def test_the_last_attempt_looks_for_all_where_it_waits_for_one_in_vain(
    looking: Setup,
) -> None:
    others, second = Others(), flight_for(looking, 1)
    second.work = asyncio.get_running_loop().create_future()  # type: ignore[assignment] # is awaited
    others.flying[second.key] = second
    last = flight_for(looking, 2)
    last.abandoned = True
    looking.agent.script["find"] = [Numbered(id="job-1")]
    looking.agent.script["get"] = [RUNNING, Status(Phase.ABORTED)]
    with pytest.raises(Throttled):
        await settle.settle(looking.kernel, last, others, looking.cancelling)
    assert await looking.kernel.detached.drain(5) == 0
    looked_for = {each.output_prefix for each in looking.agent.about["find"]}
    assert looked_for == {prefix(0), prefix(1)}
    second.work.cancel()


def test_what_has_come_to_nothing_is_not_due() -> None:
    assert FOR_EVER.lasts
    assert not FOR_EVER.is_due
