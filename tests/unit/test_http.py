from __future__ import annotations

import asyncio
import gzip
import itertools
import time
from collections.abc import AsyncIterator, Sequence

import pytest
from pydantic import BaseModel, ConfigDict
from tests.unit.vendor_setup import SECRET, Setup

from flyteagents import (
    AgentError,
    Endpoint,
    Forbidden,
    InvalidTask,
    JobConflict,
    JobNotFound,
    Reply,
    Throttled,
    Unauthenticated,
    Unavailable,
    _redact,
)
from flyteagents._vendor import pool
from flyteagents._vendor.budget import Budget
from flyteagents._vendor.http import VendorClient
from flyteagents._vendor.replies import TEXT_LIMIT
from flyteagents.testing import (
    Delay,
    Nonsense,
    Response,
)


class State(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str
    n: int = 0


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    async with Setup.made() as made:
        yield made


async def test_a_path_is_joined_to_the_endpoint_and_the_reply_read_by_the_model(
    setup: Setup,
) -> None:
    state = await setup.http().post(
        "/jobs?a=b",
        into=State,
        json={"x": 1},
        params={"q": "1 2", "none": None, "flag": True},
        headers={"X-One": "1"},
    )
    request = setup.vendor.requests[0]
    assert state == State(id="j", n=1)
    assert (request.method, request.path) == ("POST", "/api/jobs")
    assert request.query == {"a": "b", "q": "1 2", "flag": "true"}
    assert request.json() == {"x": 1}
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    assert (request.headers["x-one"], request.headers["accept"]) == ("1", "application/json")
    assert request.headers["user-agent"].startswith("flyteagents/")


async def test_a_reply_is_returned_without_a_model(setup: Setup) -> None:
    setup.vendor.script("*", "*", Response(201, gzip.compress(b"hi"), {"Content-Encoding": "gzip"}))
    reply = await setup.http().put("x", content=b"raw", headers={"Content-Type": "text/x"})
    assert (reply.status, reply.text, reply.headers["content-encoding"]) == (201, "hi", "gzip")
    assert setup.vendor.requests[0].body == b"raw"
    await setup.http().request("PATCH", "x", form={"grant": "a b"})
    assert setup.vendor.requests[1].body == b"grant=a+b"


async def test_requests_use_the_same_connections(setup: Setup) -> None:
    http = setup.http()
    await http.get("/")
    await asyncio.gather(*(http.get("/") for _ in range(20)))
    await setup.http().get("/")
    assert setup.vendor.connections <= 4
    assert setup.vendor.total == 22


async def test_absolute_urls_of_an_allowed_host_are_taken(setup: Setup) -> None:
    await setup.http().get(f"{setup.vendor.url}/next?page=2", params={"size": 1})
    assert setup.vendor.requests[0].path == "/next"
    assert setup.vendor.requests[0].query == {"page": "2", "size": "1"}


STATUSES: Sequence[tuple[int, type[AgentError]]] = [
    (304, Unavailable),
    (400, InvalidTask),
    (401, Unauthenticated),
    (403, Forbidden),
    (404, JobNotFound),
    (405, InvalidTask),
    (408, Unavailable),
    (409, JobConflict),
    (410, JobNotFound),
    (418, InvalidTask),
    (422, InvalidTask),
    (425, Unavailable),
    (429, Throttled),
    (500, Unavailable),
    (503, Unavailable),
    (504, Unavailable),
]


@pytest.mark.parametrize(("status", "error"), STATUSES)
async def test_a_status_is_raised_as_the_error_that_fits(
    setup: Setup, status: int, error: type[AgentError]
) -> None:
    setup.vendor.script("*", "*", Response(status), repeat=True)
    with pytest.raises(AgentError) as raised:
        await setup.http(retries=False).get("/")
    assert type(raised.value) is error
    assert str(status) in str(raised.value)
    assert setup.seen[-1] == status


@pytest.mark.parametrize(("status", "told"), [(401, True), (403, True), (404, False)])
async def test_a_refusal_says_which_credentials_were_sent(
    setup: Setup, status: int, told: bool
) -> None:
    setup.vendor.script("*", "*", Response(status), repeat=True)
    endpoint = Endpoint(setup.vendor.url, SECRET, shown="the secret acme_token")
    with pytest.raises(AgentError) as raised:
        await setup.http(retries=False).get("/", endpoint=endpoint)
    assert str(raised.value).endswith(" | credentials: the secret acme_token") is told
    assert SECRET not in str(raised.value)


BODIES: Sequence[tuple[object, str]] = [
    ({"error": {"message": "bad", "code": 404, "status": "NOT_FOUND"}}, "[NOT_FOUND] |bad"),
    ({"error": {"message": "bad"}}, "|bad"),
    ({"error_code": "QUOTA", "message": "too much"}, "[QUOTA] |too much"),
    ({"code": "002003", "message": "no schema"}, "[002003] |no schema"),
    ({"error": "invalid_grant", "error_description": "expired"}, "|expired"),
    ({"error": "text"}, "|text"),
    ({"detail": "why"}, "|why"),
    ("first line\nsecond", "|first line"),
    ("<html><h1>nginx</h1></html>", "|"),
    (["a"], "|"),
    ({"message": {"deep": 1}}, "|"),
    (b"\xff\xfe\x00", "|\ufffd\ufffd"),
    ("[" * 5000, "|"),
    ({"message": "é" * 1000}, "|" + "é" * 198 + "..."),
]


@pytest.mark.parametrize(("body", "text"), BODIES)
async def test_the_vendors_own_words_are_dug_out(setup: Setup, body: object, text: str) -> None:
    setup.vendor.script("*", "*", Response(400, body))
    with pytest.raises(InvalidTask) as raised:
        await setup.http().get("/")
    code, _, words = text.partition("|")
    host = setup.vendor.url.removeprefix("http://")
    assert str(raised.value) == f"{code}{host} answered 400" + (f": {words}" if words else "")


async def test_of_a_secret_at_which_the_vendors_words_are_cut_nothing_is_left(setup: Setup) -> None:
    secret = "hunter2-and-then-some"
    _redact.remember(secret)
    setup.vendor.script("*", "*", Response(400, {"message": "x" * (TEXT_LIMIT - 10) + secret}))
    with pytest.raises(InvalidTask) as raised:
        await setup.http().get("/")
    assert "hunter2" not in str(raised.value)


async def test_accepted_statuses_are_replies(setup: Setup) -> None:
    setup.vendor.script("*", "*", Response(409, {"job": 1}))
    reply = await setup.http().put("/jobs/1", accept=[409])
    assert (reply.status, reply.json()) == (409, {"job": 1})


async def test_the_agent_may_explain_a_reply(setup: Setup) -> None:
    def explain(reply: Reply) -> AgentError | None:
        return JobNotFound("gone") if reply.text == "gone" else None

    http = setup.client.bind(setup.endpoint, Budget(time.monotonic() + 60), explain)
    setup.vendor.script("*", "*", Response(400, "gone"), Response(400, "bad"))
    with pytest.raises(JobNotFound, match="gone"):
        await http.get("/")
    with pytest.raises(InvalidTask, match="bad"):
        await http.get("/")


async def test_a_number_that_json_cannot_hold_is_told(setup: Setup) -> None:
    with pytest.raises(InvalidTask, match="JSON"):
        await setup.http().post("/", json={"x": float("nan")})


_MEMBERS = [gzip.compress(part, mtime=0) for part in (b'{"id": ', b"", b'"j"}')]


async def test_a_gzip_of_several_members_is_one_body(setup: Setup) -> None:
    body = b"".join(_MEMBERS)
    setup.vendor.script("*", "*", Response(200, body, {"Content-Encoding": "gzip"}))
    assert (await setup.http().get("/")).json() == {"id": "j"}


def test_a_gzip_is_unpacked_wherever_its_pieces_are_cut() -> None:
    body = b"".join(_MEMBERS)
    for cut in range(1, len(body)):
        reply = bytearray()
        unpacked = pool._Unpacked(reply)
        unpacked.add(body[:cut])
        # A body that ends with a member is a whole one.
        ends = itertools.accumulate(len(member) for member in _MEMBERS)
        assert unpacked.cut_off == (cut not in ends)
        unpacked.add(body[cut:])
        assert (bytes(reply), unpacked.cut_off) == (b'{"id": "j"}', False)


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(b'{"a": 1}' * 99, mtime=0)[:-12],
        b"no gzip",
        b"\x1f\x8b",
        b"".join(_MEMBERS)[:-1],
        _MEMBERS[0] + b"no gzip",
        _MEMBERS[0] + b"\0",
    ],
    ids=["cut off", "none", "its start", "last member cut off", "garbage behind", "a byte behind"],
)
async def test_a_gzip_that_is_cut_off_or_none_is_no_answer(setup: Setup, body: bytes) -> None:
    setup.vendor.script("*", "*", Response(200, body, {"Content-Encoding": "gzip"}))
    with pytest.raises(Unavailable, match="broke"):
        await setup.http(retries=False).get("/")
    setup.vendor.script("*", "*", Response(200, body, {"Content-Encoding": "gzip"}))
    assert (await setup.http().get("/")).json() == {"id": "j", "n": 1}


@pytest.mark.parametrize("members", [1, 2])
async def test_a_reply_without_end_is_cut_off(setup: Setup, members: int) -> None:
    bomb = gzip.compress(b"\0" * (pool.REPLY_LIMIT // members + 1)) * members
    setup.vendor.script("*", "*", Response(200, bomb, {"Content-Encoding": "gzip"}), repeat=True)
    with pytest.raises(Unavailable, match="64 MiB"):
        await setup.http().get("/")
    assert setup.vendor.total == 1


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"n": "s3cret-value"}, "State: id, n"),
        ("<html>s3cret-value</html>", "not JSON"),
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"id": "\\ud83d", "n": "s3cret-value"}', "State: n"),
        (["s3cret-value"], "State: all of it"),
    ],
)
async def test_a_reply_that_does_not_fit_names_fields_and_no_values(
    setup: Setup, body: object, text: str
) -> None:
    setup.vendor.script("*", "*", Response(200, body))
    with pytest.raises(Unavailable) as raised:
        await setup.http().get("/", into=State)
    assert text in str(raised.value)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    "body",
    [
        rb'{"id": "a ?", "message": "cut off in an emoji: \ud83d"}',
        rb'{"id": "a \ud83d"}',
        b'{"id": "a \xed\xa0\xbd"}',
    ],
)
async def test_half_of_a_character_makes_no_answer_unreadable(setup: Setup, body: bytes) -> None:
    setup.vendor.script("*", "*", Response(200, body))
    assert (await setup.http().get("/", into=State)).id == "a ?"


async def test_new_fields_of_the_vendors_are_ignored(setup: Setup) -> None:
    setup.vendor.script("*", "*", Response(200, {"id": "a", "added": {"later": 1}}))
    assert await setup.http().get("/", into=State) == State(id="a")


async def test_a_redirect_is_not_followed(setup: Setup) -> None:
    location = {"Location": f"{setup.vendor.url}/elsewhere?code=s3cret"}
    setup.vendor.script("*", "*", Response(302, headers=location))
    with pytest.raises(Unavailable, match="302") as raised:
        await setup.http(retries=False).get("/")
    assert "elsewhere" not in str(raised.value)
    assert setup.vendor.total == 1


async def test_cookies_are_not_kept(setup: Setup) -> None:
    # By its name: a cookie of an address would be refused anyway.
    client = VendorClient("acme", ["localhost"])

    async def endpoint(_: bool) -> Endpoint:
        return Endpoint(f"http://localhost:{setup.vendor.port}")

    setup.vendor.script("*", "*", Response(200, headers={"Set-Cookie": "session=tenant-a"}))
    for _ in range(2):
        await client.bind(endpoint, Budget(time.monotonic() + 60)).get("/")
    assert "cookie" not in setup.vendor.requests[1].headers
    await client.aclose()


async def test_headers_that_come_twice_are_one_text(setup: Setup) -> None:
    raw = b"HTTP/1.1 200 OK\r\nX-Two: a\r\nx-two: b\r\ncontent-length: 0\r\n\r\n"
    setup.vendor.script("*", "*", Nonsense(raw))
    assert (await setup.http().get("/")).headers["x-two"] == "a, b"


async def test_a_large_body_arrives_whole(setup: Setup) -> None:
    await setup.http().post("/", content=b"x" * 3_000_000)
    assert len(setup.vendor.requests[0].body) == 3_000_000


async def test_cancelling_the_caller_cancels_the_request(setup: Setup) -> None:
    setup.vendor.script("*", "*", Delay(60))
    pending = asyncio.ensure_future(setup.http().get("/"))
    await setup.vendor.until(count=1)
    pending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pending
    assert (await setup.http().get("/")).status == 200
