"""What is remembered by texts that come over the wire: only where they are short."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.kernel_setup import RUNNING, WHO, Numbered, Setup

from flyteagents import (
    Forbidden,
    Idempotency,
    Kind,
    Phase,
    Status,
    Type,
    Unavailable,
    _redact,
    _tenants,
)
from flyteagents._kernel import keys
from flyteagents._kernel.deadline import Deadline
from flyteagents._kernel.envelope import (
    CARRYING,
    BrokenEnvelope,
    Envelope,
    Parked,
    _dump,
    dump,
    load,
    new_envelope,
)
from flyteagents._kernel.kernel import ERROR_LIMIT
from flyteagents._kernel.poll import Polling
from flyteagents._kernel.requests import JobRequest
from flyteagents._kernel.seen import Seen
from flyteagents._kernel.service import Service
from flyteagents._kernel.soft_state import REQUESTS, ROOM, SoftState
from flyteagents._kernel.stores import Stores
from flyteagents._telemetry.otlp import Encoder
from flyteagents._telemetry.providers import Telemetry
from flyteagents._telemetry.tracing import Rpc
from flyteagents._vendor import hosts
from flyteagents._wire import types
from flyteagents._wire.messages import NAME_LIMIT, create_request
from flyteagents.testing import Attempt, task_template

LONG = "x" * 20_000


def long_types() -> None:
    declared = {LONG: Type(Kind.INTEGER)}
    assert types.load_types(types.dump_types(declared)) == declared


def refused_host() -> None:
    with pytest.raises(Forbidden):
        hosts.check_host(LONG, ["*.vendor.example"])


def refused_types() -> None:
    nothing = b"\0\0\0\xff\xff" * 100_000  # blocks of a stream, with nothing in them
    with pytest.raises(ValueError, match="more than"):
        types.load_types(base64.b85encode(nothing + b"\3\0").decode())


@pytest.mark.parametrize(
    ("cache", "ask"),
    [
        (_tenants._fits, lambda: _tenants.fits_tenant("*/*", LONG, "d")),
        (_tenants._fits, lambda: _tenants.fits_tenant("*/*", "p", LONG)),
        (keys._number, lambda: keys.attempt_number(f"{LONG}/3") == 3),
        (hosts._allowed, refused_host),
        (types._dump, long_types),
        (types.load_types, refused_types),
    ],
)
def test_a_long_text_is_answered_and_not_remembered(cache: Any, ask: Callable[[], object]) -> None:
    before = cache.cache_info().currsize
    assert ask() in (True, None)
    assert cache.cache_info().currsize == before


def test_a_long_attribute_of_a_span_is_not_remembered() -> None:
    encoder = Encoder()
    assert encoder._all({"flyte.project": LONG})
    assert not encoder._attributes
    assert encoder._all({"flyte.project": "p"})
    assert len(encoder._attributes) == 1


def test_long_names_are_cut_where_they_are_read() -> None:
    work = Attempt(task_template("scripted"), project=LONG, domain=LONG, execution=LONG)
    who = create_request(work.create_request().SerializeToString(), 1).identity
    for name in (who.project, who.domain, who.execution):
        assert len(name) == NAME_LIMIT + 1
        assert name != LONG[:NAME_LIMIT], "it must not be the name of another one"


@pytest.mark.parametrize("field", ["key", "task_type", "project", "domain", "execution", "node"])
def test_an_envelope_with_a_long_name_is_refused(field: str) -> None:
    made = vars(new_envelope(WHO, "k" * 40, "scripted"))
    with pytest.raises(BrokenEnvelope):
        load(_dump(Envelope(**{**made, field: LONG})))


class Wordy(Numbered):
    text: str


@pytest.mark.parametrize("idempotency", ["none", "lookup", "vendor"])
@pytest.mark.parametrize(
    ("letters", "outputs"), [(10, 1), (3_000, 1), (10, 300), (1_000_000, 2_000)]
)
async def test_a_repeated_create_makes_no_second_job_however_much_there_is_to_remember(
    quiet_telemetry: Telemetry, idempotency: Idempotency, letters: int, outputs: int
) -> None:
    setup = Setup(quiet_telemetry, idempotency)
    offered = setup.served.offered
    setup.served.offered = replace(offered, models=replace(offered.models, job=Wordy))
    text = "x" * letters
    jobs = [Wordy(id="job-1", text=text), Wordy(id="job-2", text=text)]
    setup.agent.script["create"] = list(jobs)
    # Names that no compression makes short.
    names = (hashlib.sha256(bytes(number)).hexdigest() for number in range(outputs))
    declared = {f"o{name}": Type(Kind.INTEGER) for name in names}
    service = Service(setup.kernel)

    async def create() -> bytes:
        rpc = Rpc(setup.telemetry.tracing, "service/CreateTask")
        return await service.create(setup.request(declared=declared), Deadline(None), rpc)

    first = await create()
    assert await create() == first
    assert setup.agent.asked.count("create") == 1


def remember(soft: SoftState, **fields: Any) -> None:
    made = vars(new_envelope(WHO, "k" * 40, "scripted"))
    soft.created.put(fields["key"], ("", dump(Envelope(**{**made, **fields}))))


def test_memory_is_bound_where_creates_have_much_to_remember() -> None:
    soft = SoftState(size=40)
    for number in range(30):
        job = {"id": f"job-{number}", "text": "x" * 2 * CARRYING}
        remember(soft, key=str(number), declared=LONG, job=job)
    kept = [load(meta) for _, meta in soft.created.values()]
    assert [envelope and envelope.key for envelope in kept] == ["25", "26", "27", "28", "29"]
    assert all(envelope and len(envelope.declared) < 10 for envelope in kept)


def test_a_create_with_more_to_remember_than_there_is_room_for_is_remembered() -> None:
    soft = SoftState(size=40)
    remember(soft, key="short", job={"id": "job-1"})
    remember(soft, key="long", job={"id": LONG * 2})
    assert soft.created.get("long") is not None
    remember(soft, key="short", job={"id": "job-1"})
    assert soft.created.get("long") is None
    assert not soft.created._more
    assert soft.created._further == 0


SIZE = 40
WORDS = Status(Phase.RUNNING, LONG)


def kept_texts(soft: SoftState) -> int:
    """Bytes of the texts of all jobs that are remembered."""
    jobs = soft._jobs.values()
    return sum(len(seen.trouble) + len(str(seen.latest)) for seen in jobs)


@pytest.mark.parametrize(
    "said",
    [
        WORDS,
        Status(Phase.FAILED, LONG),
        Status(Phase.RUNNING, info={"words": LONG}),
        Status(Phase.RUNNING, info={"words": {"nested": [LONG]}}),
        Status(Phase.SUCCEEDED, outputs={"o": LONG[:7000]}),
    ],
)
async def test_what_vendors_say_of_all_jobs_is_bound_in_sum(setup: Setup, said: Status) -> None:
    soft = setup.kernel.soft = SoftState(SIZE)
    polling = Polling(setup.kernel, setup.cancelling, setup.flights.resume)
    setup.agent.script["get"] = [said]
    for _ in range(SIZE):
        answer = await polling.poll(setup.opened(), Deadline(5))
        assert len(str(answer)) > 7000
    assert 0 < kept_texts(soft) <= SIZE * ROOM


async def test_why_polls_of_all_jobs_fail_is_bound_in_sum(setup: Setup) -> None:
    soft = setup.kernel.soft = SoftState(SIZE)
    polling = Polling(setup.kernel, setup.cancelling, setup.flights.resume)
    setup.agent.script["get"] = [Unavailable(LONG)]
    for _ in range(SIZE):
        await polling.poll(setup.opened(), Deadline(5))
    assert len(soft._jobs.values()) <= SIZE / 2


async def test_jobs_with_ordinary_texts_are_all_remembered(setup: Setup) -> None:
    soft = setup.kernel.soft = SoftState(SIZE)
    polling = Polling(setup.kernel, setup.cancelling, setup.flights.resume)
    setup.agent.script["get"] = [Status(Phase.RUNNING, "x" * 500, info={"rows": "x" * 300})]
    for _ in range(SIZE):
        await polling.poll(setup.opened(), Deadline(5))
    assert len(soft._jobs.values()) == SIZE


async def test_room_that_a_job_no_longer_needs_is_others(setup: Setup) -> None:
    soft = setup.kernel.soft = SoftState(SIZE)
    polling = Polling(setup.kernel, setup.cancelling, setup.flights.resume)
    setup.agent.script["get"] = [WORDS, RUNNING]
    opened = setup.opened()
    for _ in range(2):
        await polling.poll(opened, Deadline(5))
    for _ in range(SIZE - 1):
        await polling.poll(setup.opened(), Deadline(5))
    assert len(soft._jobs.values()) == SIZE


@pytest.mark.parametrize("what", ["late_ends", "troubles", "requests"])
def test_other_texts_are_bound_in_sum_too(what: str) -> None:
    soft = SoftState(SIZE)
    made: dict[str, Callable[[], object]] = {
        "late_ends": lambda: Parked(Phase.FAILED, LONG),
        "troubles": lambda: LONG + "",
        "requests": lambda: JobRequest("scripted", LONG.encode()),
    }
    memory = getattr(soft, what)
    for number in range(REQUESTS):
        memory.put(str(number), made[what]())
    assert 0 < len(memory.values()) <= memory._size * ROOM / len(LONG)


def test_an_errors_text_is_cut(setup: Setup) -> None:
    error = Unavailable(LONG)
    text = setup.kernel.tell(setup.served, "get", error)
    assert len(text) == ERROR_LIMIT
    seen = Seen()
    seen.poll_failed(error, text, refused=False)
    assert seen.told_before(error) == text
    assert len(str(seen._error)) < 100


def test_a_long_error_is_not_told_as_another_one_that_begins_like_it() -> None:
    seen = Seen()
    seen.poll_failed(Unavailable(f"{LONG} first"), "the first one's text", refused=False)
    assert seen.told_before(Unavailable(f"{LONG} first")) == "the first one's text"
    assert seen.told_before(Unavailable(f"{LONG} second")) == ""


def test_a_secret_that_no_text_could_hold_is_not_kept() -> None:
    _redact.remember(LONG * 2)
    assert LONG * 2 not in _redact._known


def test_a_long_place_of_a_store_is_not_kept_whole() -> None:
    stores = Stores("scripted")
    stores.threads(f"s3://{LONG}/data/0")
    assert all(len(place) < 300 for place in stores._threads)
    stores.close()
