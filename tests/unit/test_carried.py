"""A request that rides in an unconfirmed envelope, and another replica that submits on with it."""

from __future__ import annotations

import asyncio
import base64
import os
import zlib
from dataclasses import replace
from typing import Any

import pytest
from flyteidl2.connector import connector_pb2 as flyte2
from tests.unit.kernel_setup import Numbered, Setup, within

from flyteagents import Forbidden, JobNotFound, Phase, Status, Unavailable
from flyteagents._kernel import detached
from flyteagents._kernel.call import CALL_LIMIT
from flyteagents._kernel.carried import INFLATED, packed, unpacked
from flyteagents._kernel.create import Creating
from flyteagents._kernel.envelope import CARRYING, LIMIT, Envelope, dump, load
from flyteagents._kernel.flight import SKEW
from flyteagents._kernel.keys import key_of
from flyteagents._kernel.open_job import YOUNG
from flyteagents._kernel.poll import NOT_CARRIED, Polling
from flyteagents._kernel.requests import NO_CONNECTION, Connection, CreateRequest
from flyteagents._wire.messages import codec, create_request
from flyteagents.testing import Attempt, task_template

pytestmark = pytest.mark.usefixtures("asked_once")
JOB = Numbered(id="job-1")
CODEC = codec()
LAST = YOUNG - SKEW - CALL_LIMIT
"""Seconds of a job's age in which the last submit may begin."""


def asked(generation: Any = 1, **of: Any) -> CreateRequest:
    """A request as it comes over the wire."""
    attempt = Attempt(task_template("scripted", **of), execution="e1", generation=generation)
    raw = attempt.create_request().SerializeToString()
    if generation == 2:
        sent = flyte2.CreateTaskRequest(connection={"secrets": {"acme": "s3cret-value"}})
        raw += sent.SerializeToString()
    return create_request(raw, generation)


def deflated(raw: bytes) -> bytes:
    squeezing = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return squeezing.compress(raw) + squeezing.flush()


async def answered(setup: Setup, request: CreateRequest) -> Envelope:
    """The envelope of a create whose vendor is away, as another replica reads it."""
    setup.agent.named = JOB
    setup.agent.script["create"] = [Unavailable("away")]
    key = key_of("", "scripted", request.output_prefix)
    creating = Creating(setup.kernel, setup.flights)
    read = load(await creating.create(request, key, "", within(60)))
    assert read is not None
    assert read.unconfirmed
    return read


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Setup:
    """Another replica, to which the vendor says that there is no such job."""
    monkeypatch.setattr(detached, "FIRST_PAUSE", 0.0)
    other = Setup()
    other.agent.script["get"] = [JobNotFound("no such job")]
    return other


async def polled(other: Setup, envelope: Envelope, connection: Connection = NO_CONNECTION) -> str:
    """What the other replica says, and some turns of the loop for what it does then."""
    opened = replace(other.opened(), envelope=envelope, connection=connection)
    polling = Polling(other.kernel, other.cancelling, other.flights.resume)
    answer = await polling.poll(opened, within(60))
    assert answer.phase is Phase.INITIALIZING
    for _ in range(100):
        await asyncio.sleep(0)
    return answer.message


async def test_another_replica_submits_the_same_task_and_tells_the_cause(
    setup: Setup, other: Setup
) -> None:
    envelope = await answered(setup, asked(custom={"a": 1}, sql="SELECT 1", inputs={"n": 7}))
    assert len(dump(envelope)) <= CARRYING
    message = await polled(other, envelope)
    assert message.startswith("the vendor has not taken the job on yet")
    assert "away" in message
    (task,) = other.agent.about["create"]
    assert (task.statement, task.inputs, task.key.hex) == ("SELECT 1", {"n": 7}, envelope.key)


async def test_it_is_submitted_once_and_with_what_flyte_sends_along_with_the_poll(
    setup: Setup, other: Setup
) -> None:
    other.agent.script["create"] = [asyncio.Event()]
    envelope = await answered(setup, asked(2))
    connection = Connection({"acme": "s3cret-value"})
    await polled(other, envelope, connection)
    await polled(other, envelope, connection)
    assert other.agent.asked.count("create") == 1
    flight = other.flights.under_way(envelope.key)
    assert flight is not None
    assert flight.connection is connection


async def test_the_vendors_no_to_another_replica_is_the_tasks_end(
    setup: Setup, other: Setup
) -> None:
    other.agent.script["create"] = [Forbidden("you may not")]
    envelope = await answered(setup, asked())
    await polled(other, envelope)
    end = other.kernel.soft.late_ends.get(envelope.key)
    assert end is not None
    assert (end.phase, end.message) == (Phase.FAILED, "you may not")


async def test_what_is_being_cancelled_is_not_submitted(setup: Setup, other: Setup) -> None:
    envelope = await answered(setup, asked())
    opened = replace(other.opened(), envelope=envelope)
    cancel = other.cancelling.detach(opened)
    other.flights.resume(opened)
    assert other.flights.under_way(envelope.key) is None
    await asyncio.sleep(0)  # one that never began would be complained of in a later test
    cancel.cancel()
    await asyncio.wait({cancel})


async def test_what_was_cancelled_is_not_submitted_when_its_vendor_has_forgotten_it(
    setup: Setup, other: Setup
) -> None:
    envelope = await answered(setup, asked())
    opened = replace(other.opened(), envelope=envelope)
    other.agent.script["get"] = [Status(Phase.ABORTED), JobNotFound("no such job")]
    await other.cancelling.detach(opened)
    polling = Polling(other.kernel, other.cancelling, other.flights.resume)
    assert "has not taken the job on yet" in (await polling.poll(opened, within(60))).message
    assert other.flights.under_way(envelope.key) is None


async def test_what_nobody_waits_for_is_not_submitted(setup: Setup, other: Setup) -> None:
    envelope = await answered(setup, asked())
    other.flights.nobody_comes()
    other.flights.resume(replace(other.opened(), envelope=envelope))
    assert other.flights.under_way(envelope.key) is None


@pytest.mark.parametrize(
    ("age", "submits"),
    [(LAST - 1, True), (LAST + 1, False), (-3600.0, True)],
    ids=["in time", "too late", "by a clock that is ahead"],
)
async def test_the_last_submit_lands_while_another_replicas_cancel_looks_for_its_job(
    setup: Setup, other: Setup, age: float, submits: bool
) -> None:
    envelope = await answered(setup, asked())
    envelope = replace(envelope, created=envelope.created - age)
    other.agent.script["create"] = [asyncio.Event()]
    other.flights.resume(replace(other.opened(), envelope=envelope))
    flight = other.flights.under_way(envelope.key)
    assert (flight is not None) == submits
    if flight is not None:  # a clock that is ahead gives it no more time
        assert flight.budget.left <= LAST


async def test_what_has_waited_for_a_place_until_it_was_cancelled_is_not_submitted(
    setup: Setup, other: Setup
) -> None:
    envelope = await answered(setup, asked())
    while other.served.creates.try_enter():
        pass
    await polled(other, envelope)
    flight = other.flights.under_way(envelope.key)
    assert flight is not None
    other.flights.is_unwanted(envelope.key)
    other.served.creates.leave()
    await asyncio.wait({flight.work})
    assert "create" not in other.agent.asked


@pytest.mark.parametrize("age", [0.0, YOUNG + 1])
async def test_a_task_that_one_replica_alone_can_submit_says_so_while_it_waits_and_at_its_end(
    setup: Setup, other: Setup, age: float
) -> None:
    envelope = await answered(setup, asked(custom={"a": "x" * 3000}, sql=os.urandom(3000).hex()))
    assert envelope.request == ""
    opened = replace(other.opened(), envelope=replace(envelope, created=envelope.created - age))
    polling = Polling(other.kernel, other.cancelling, other.flights.resume)
    answer = await polling.poll(opened, within(60))
    assert answer.phase is (Phase.RETRYABLE_FAILED if age else Phase.INITIALIZING)
    assert answer.message.endswith(f"away ({NOT_CARRIED})")


@pytest.mark.parametrize(
    "change",
    [
        {"key": "0" * 40},
        {"project": "another"},
        {"fingerprint": "1-0000000000000000"},
        {"created": 1.0},
        {"request": "not base85 \\"},
        {"request": ""},
        {"request": base64.b85encode(b"not deflated").decode()},
        {"request": base64.b85encode(deflated(b"\1" * 10**6)).decode()},
    ],
)
async def test_a_request_that_is_not_the_envelopes_own_is_not_submitted(
    setup: Setup, other: Setup, change: dict[str, Any]
) -> None:
    envelope = replace(await answered(setup, asked()), **change)
    other.flights.resume(replace(other.opened(), envelope=envelope))
    assert other.flights.under_way(envelope.key) is None


async def test_an_agents_bug_while_the_task_is_read_again_fails_no_poll(
    setup: Setup, other: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(task: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(other.agent, "fingerprint", broken)
    assert "away" in await polled(other, await answered(setup, asked()))


@pytest.mark.parametrize(
    "of",
    [
        {"custom": {"password": "hunter2"}},
        {"sql": "SELECT 'Bearer abcdefghijklmnop12345'"},
        {"container": "DB_PASSWORD"},
    ],
)
def test_what_looks_like_a_secret_is_not_carried(of: dict[str, Any]) -> None:
    name = of.pop("container", None)
    request = asked(**of)
    if name is not None:
        attempt = Attempt(task_template("scripted"))
        message = attempt.create_request()
        message.template.container.env.add(key=name, value="hunter2")
        request = create_request(message.SerializeToString(), 1)
    assert packed(request, CODEC) == ""


def test_what_a_connection_sent_is_not_carried() -> None:
    request = asked(2)
    assert dict(request.connection.secrets) == {"acme": "s3cret-value"}
    text = packed(request, CODEC)
    inflated = zlib.decompressobj(-15).decompress(base64.b85decode(text))
    assert b"s3cret-value" not in inflated
    assert inflated[0] == 2


async def test_a_request_that_is_too_large_is_left_out(setup: Setup) -> None:
    noise = base64.b85encode(zlib.compress(bytes(range(256)) * 8)).decode()
    statement = "".join(f"{n * 7919 % 10007}" for n in range(2000)) + noise
    envelope = await answered(setup, asked(sql=statement))
    assert envelope.request == ""
    assert len(dump(envelope)) <= LIMIT
    assert "away" in envelope.why
    assert packed(asked(sql="x" * (INFLATED + 1)), CODEC) == ""


async def test_nothing_is_carried_where_the_vendor_would_make_two_jobs(setup: Setup) -> None:
    setup = Setup(idempotency="lookup")
    assert (await answered(setup, asked())).request == ""


def test_what_was_packed_is_the_same_request() -> None:
    request = asked(2, sql="SELECT 1")
    envelope = Envelope(
        key=key_of("", "scripted", request.output_prefix).hex,
        task_type="scripted",
        created=0,
        project="tests",
        domain="development",
        request=packed(request, CODEC),
    )
    read = unpacked(envelope, "", CODEC, NO_CONNECTION)
    assert read is not None
    assert (read.generation, read.output_prefix) == (2, request.output_prefix)
    assert read.identity == request.identity
    assert read.read().statement == "SELECT 1"
    assert unpacked(envelope, "another cluster", CODEC, NO_CONNECTION) is None
