from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel, ConfigDict

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
)
from flyteagents._telemetry.redact import redact
from flyteagents._vendor import pool
from flyteagents._vendor.budget import Budget
from flyteagents._vendor.http import Http, VendorClient
from flyteagents.testing import (
    Cut,
    Delay,
    DropReply,
    FakeVendor,
    Nonsense,
    Request,
    Response,
    SlowReply,
)

SECRET = "c4nary-credential"


class State(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str
    n: int = 0


@dataclass
class Setup:
    """A vendor that answers `reply`, and the client under test."""

    vendor: FakeVendor
    client: VendorClient = field(init=False)
    seen: list[int | None] = field(default_factory=list)
    noticed: asyncio.Event = field(default_factory=asyncio.Event)
    tokens: list[str] = field(default_factory=lambda: [SECRET])
    asked: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = VendorClient("acme", ["127.0.0.1"], max_connections=4, observe=self.observe)

    def observe(self, status: int | None, seconds: float) -> None:
        assert 0 < seconds < 5
        self.seen.append(status)
        self.noticed.set()

    async def endpoint(self, fresh: bool) -> Endpoint:
        self.asked.append(fresh)
        return Endpoint(f"{self.vendor.url}/api", bearer=self.tokens[fresh and -1])

    def http(self, seconds: float = 5.0, **budget: Any) -> Http:
        return self.client.bind(self.endpoint, Budget(time.monotonic() + seconds, **budget))


async def answer(request: Request) -> Response:
    return Response(200, {"id": "j", "n": 1})


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    async with FakeVendor(answer) as vendor:
        setup = Setup(vendor)
        yield setup
        await setup.client.aclose()


_exporter = InMemorySpanExporter()


@pytest.fixture
def spans() -> InMemorySpanExporter:
    """Spans of the process's one tracer provider, which other tests may have set."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    if not getattr(_exporter, "added", False):
        provider.add_span_processor(SimpleSpanProcessor(_exporter))
        _exporter.added = True  # type: ignore[attr-defined] # a mark of this fixture's own
    _exporter.clear()
    return _exporter


async def test_a_path_is_joined_to_the_endpoint_and_the_reply_read_by_the_model(
    setup: Setup,
) -> None:
    state = await setup.http().post(
        "/jobs?a=b", into=State, json={"x": 1}, params={"q": "1 2", "none": None, "flag": True},
        headers={"X-One": "1"},
    )  # fmt: skip
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


STATUSES: Sequence[tuple[int, type[AgentError]]] = [
    (304, Unavailable), (400, InvalidTask), (401, Unauthenticated), (403, Forbidden),
    (404, JobNotFound), (405, InvalidTask), (408, Unavailable), (409, JobConflict),
    (410, JobNotFound), (418, InvalidTask), (422, InvalidTask), (425, Unavailable),
    (429, Throttled), (500, Unavailable), (503, Unavailable), (504, Unavailable),
]  # fmt: skip


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
    ({"message": "x" * 1000}, "|" + "x" * 399 + "…"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "text"), BODIES)
async def test_the_vendors_own_words_are_dug_out(setup: Setup, body: object, text: str) -> None:
    setup.vendor.script("*", "*", Response(400, body))
    with pytest.raises(InvalidTask) as raised:
        await setup.http().get("/")
    code, _, words = text.partition("|")
    host = setup.vendor.url.removeprefix("http://")
    assert str(raised.value) == f"{code}{host} answered 400" + (f": {words}" if words else "")


async def test_accepted_statuses_are_replies(setup: Setup) -> None:
    setup.vendor.script("*", "*", Response(409, {"job": 1}))
    reply = await setup.http().put("/jobs/1", accept=[409])
    assert (reply.status, reply.json()) == (409, {"job": 1})


async def test_the_agent_may_explain_a_reply(setup: Setup) -> None:
    def explain(reply: Reply) -> AgentError | None:
        return JobNotFound("gone") if reply.text == "gone" else None

    http = setup.client.bind(setup.endpoint, Budget(time.monotonic() + 5), explain)
    setup.vendor.script("*", "*", Response(400, "gone"), Response(400, "bad"))
    with pytest.raises(JobNotFound, match="gone"):
        await http.get("/")
    with pytest.raises(InvalidTask, match="bad"):
        await http.get("/")


async def test_a_401_is_tried_once_more_with_fresh_credentials(setup: Setup) -> None:
    setup.tokens = ["old", "new"]
    setup.vendor.script("*", "*", Response(401))
    await setup.http(retries=False, repeat="unsent").post("/")
    assert setup.asked == [False, True]
    sent = [request.headers["authorization"] for request in setup.vendor.requests]
    assert sent == ["Bearer old", "Bearer new"]
    setup.vendor.script("*", "*", Response(401), repeat=True)
    with pytest.raises(Unauthenticated):
        await setup.http().get("/")
    assert setup.vendor.total == 4


async def test_missing_credentials_are_not_asked_for_twice(setup: Setup) -> None:
    async def endpoint(fresh: bool) -> Endpoint:
        setup.asked.append(fresh)
        raise Unauthenticated("there is no secret")

    with pytest.raises(Unauthenticated):
        await setup.client.bind(endpoint, Budget(time.monotonic() + 5)).get("/")
    assert setup.asked == [False]


@pytest.mark.parametrize("fault", [Response(503), Response(429), Cut(), DropReply(), Nonsense()])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
async def test_failures_are_repeated_while_there_is_time(
    setup: Setup, method: str, fault: Response | Cut | DropReply | Nonsense
) -> None:
    setup.vendor.script("*", "*", fault)
    assert (await setup.http().request(method, "/")).status == 200
    assert setup.vendor.total == 2


@pytest.mark.parametrize("status", [400, 403, 404, 409])
async def test_what_will_not_pass_is_not_repeated(setup: Setup, status: int) -> None:
    setup.vendor.script("*", "*", Response(status))
    with pytest.raises(AgentError):
        await setup.http().get("/")
    assert setup.vendor.total == 1


@pytest.mark.parametrize("fault", [Response(500), Response(504), Cut(), DropReply(), Nonsense()])
async def test_a_post_that_may_have_arrived_is_not_repeated_if_that_is_unsafe(
    setup: Setup, fault: Response | Cut | DropReply | Nonsense
) -> None:
    setup.vendor.script("*", "*", None, fault)
    await setup.http().get("/")  # so that the POST goes over a connection that was used before
    with pytest.raises(Unavailable):
        await setup.http(repeat="unsent").post("/")
    assert setup.vendor.total == 2


@pytest.mark.parametrize("status", [429, 503])
async def test_a_post_that_the_vendor_turned_away_is_repeated(setup: Setup, status: int) -> None:
    setup.vendor.script("*", "*", Response(status))
    assert (await setup.http(repeat="unsent").post("/")).status == 200


async def test_a_post_that_never_left_is_repeated(setup: Setup) -> None:
    await setup.vendor.down()
    pending = asyncio.ensure_future(setup.http(repeat="unsent").post("/"))
    await asyncio.wait_for(setup.noticed.wait(), 5)
    await setup.vendor.up()
    assert (await pending).status == 200


async def test_a_poll_is_one_request(setup: Setup) -> None:
    setup.vendor.script("*", "*", Response(503), Nonsense(), Cut(), repeat=True)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await setup.http(retries=False).get("/")
    assert setup.vendor.total == 3


async def test_a_poll_over_a_connection_that_went_stale_is_tried_again_at_once(
    setup: Setup,
) -> None:
    http = setup.http(retries=False)
    setup.vendor.script("*", "*", None, Cut(), None, Cut(), Cut())
    await http.get("/")
    assert (await http.get("/")).status == 200
    assert setup.vendor.total == 3
    with pytest.raises(Unavailable):
        await http.get("/")
    assert setup.vendor.total == 5


async def test_a_stale_connection_is_no_reason_to_post_twice(setup: Setup) -> None:
    http = setup.http(retries=False)
    setup.vendor.script("*", "*", None, Cut())
    await http.get("/")
    with pytest.raises(Unavailable):
        await http.post("/")
    assert setup.vendor.total == 2


async def test_retry_after_is_waited_for(setup: Setup) -> None:
    setup.vendor.script("*", "*", Response(429, headers={"Retry-After": "0.04"}))
    setup.vendor.script("*", "*", Response(503, headers={"Retry-After": "0.04"}))
    await setup.http().get("/")
    first, second, third = (request.at for request in setup.vendor.requests)
    assert second - first >= 0.04
    assert third - second >= 0.04


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30.0), ("999999", 3600.0), ("-1", None), ("soon", None), ("nan", None),
        (formatdate(time.time() + 1000, usegmt=True), 1000.0),
        (formatdate(0, usegmt=True), 0.0),
    ],
)  # fmt: skip
async def test_a_wait_that_ends_too_late_is_raised_at_once(
    setup: Setup, value: str, seconds: float | None
) -> None:
    setup.vendor.script("*", "*", Response(429, headers={"Retry-After": value}), repeat=True)
    with pytest.raises(Throttled) as raised:
        await setup.http(0.03).get("/")
    assert raised.value.retry_after == (
        None if seconds is None else pytest.approx(seconds, abs=300)
    )
    if seconds:
        assert setup.vendor.total == 1


async def test_no_request_begins_when_the_time_is_over(setup: Setup) -> None:
    with pytest.raises(Unavailable):
        await setup.http(-1).get("/")
    with pytest.raises(Unavailable):
        await setup.http(closed=True).get("/")
    assert (setup.asked, setup.vendor.total) == ([], 0)


async def test_nothing_is_sent_after_the_caller_has_its_answer(setup: Setup) -> None:
    budget = Budget(time.monotonic() + 60)
    setup.vendor.script("*", "*", Response(500), repeat=True)
    pending = asyncio.ensure_future(setup.client.bind(setup.endpoint, budget).get("/"))
    await setup.vendor.until(count=1)
    budget.closed = True
    with pytest.raises(Unavailable, match="500"):
        await pending
    assert setup.vendor.total == 1


async def test_a_request_on_the_wire_outlives_the_budget(setup: Setup) -> None:
    setup.vendor.script("*", "*", Delay(0.05))
    assert (await setup.http(0.02).post("/")).status == 200


@pytest.mark.parametrize("slow", [Delay(60), SlowReply(60)])
async def test_a_request_has_a_limit_of_its_own(setup: Setup, slow: Delay | SlowReply) -> None:
    await setup.http().get("/")  # the first one also opens the client
    setup.vendor.script("*", "*", slow)
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"no answer from 127.0.0.1:\d+ within 0.05 s"):
        await setup.http(limit=0.05, retries=False).get("/")
    assert time.monotonic() - began < 1
    assert setup.seen[-1] is None


async def test_waiting_for_a_free_connection_is_limited_too(setup: Setup) -> None:
    await setup.http().get("/")
    setup.vendor.script("*", "*", Delay(60), repeat=True)
    full = [asyncio.ensure_future(setup.http().get("/")) for _ in range(4)]
    await setup.vendor.until(count=5)
    with pytest.raises(Unavailable):
        await setup.http(limit=0.05, retries=False).post("/")
    assert setup.vendor.total == 5
    for task in full:
        task.cancel()
    await asyncio.wait(full)


async def test_an_endpoint_that_hangs_is_given_up(setup: Setup) -> None:
    async def endpoint(_: bool) -> Endpoint:
        await asyncio.sleep(60)
        raise AssertionError

    budget = Budget(time.monotonic() + 5, limit=0.02, retries=False)
    with pytest.raises(Unavailable, match="credentials"):
        await setup.client.bind(endpoint, budget).get("/")


async def test_cancelling_the_caller_cancels_the_request(setup: Setup) -> None:
    setup.vendor.script("*", "*", Delay(60))
    pending = asyncio.ensure_future(setup.http().get("/"))
    await setup.vendor.until(count=1)
    pending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pending
    assert (await setup.http().get("/")).status == 200


async def test_a_reply_without_end_is_cut_off(setup: Setup) -> None:
    bomb = gzip.compress(b"\0" * (pool.REPLY_LIMIT + 1))
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
    setup.vendor.script("*", "*", Response(200, headers={"Set-Cookie": "session=tenant-a"}))
    await setup.http().get("/")
    await setup.http().get("/")
    assert "cookie" not in setup.vendor.requests[1].headers


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "localhost", "127.0.0.2", "127.1", "2130706433", "0.0.0.0", "[::1]",
        "[::ffff:127.0.0.1]", "169.254.169.254", "a.localhost", "api.vendor.example.evil.example",
    ],
)  # fmt: skip
async def test_credentials_go_to_allowed_hosts_only(host: str) -> None:
    client = VendorClient("acme", ["127.0.0.1:80", "*.vendor.example", "*1*", "*::*"])

    async def endpoint(_: bool) -> Endpoint:
        return Endpoint("http://127.0.0.1:9/", bearer=SECRET)

    async def task_named(_: bool) -> Endpoint:
        return Endpoint(f"http://{host}:9", bearer=SECRET)

    budget = Budget(time.monotonic() + 5, retries=False)
    for bound, path in ((endpoint, f"http://{host}:9/x"), (task_named, "/x")):
        with pytest.raises(Forbidden, match="FLYTEAGENTS_ALLOW_HOSTS") as raised:
            await client.bind(bound, budget).get(path)
        assert host.strip("[]") in str(raised.value)
    await client.aclose()


@pytest.mark.parametrize("pattern", ["127.0.0.1", "127.0.0.1:1", "*.VENDOR.example", "vendor.*"])
async def test_ports_and_case_do_not_matter_for_what_is_allowed(pattern: str) -> None:
    client = VendorClient("acme", [pattern])

    async def endpoint(_: bool) -> Endpoint:
        host = "127.0.0.1" if pattern[0] == "1" else "A.vendor.EXAMPLE" if pattern[0] == "*" else ""
        return Endpoint(f"http://{host or 'vendor.invalid'}:9")

    with pytest.raises(Unavailable, match="could not connect"):
        await client.bind(endpoint, Budget(time.monotonic() + 5, retries=False)).get("/")
    await client.aclose()


async def test_absolute_urls_of_an_allowed_host_are_taken(setup: Setup) -> None:
    await setup.http().get(f"{setup.vendor.url}/next?page=2", params={"size": 1})
    assert setup.vendor.requests[0].path == "/next"
    assert setup.vendor.requests[0].query == {"page": "2", "size": "1"}


@pytest.mark.parametrize("path", ["/jobs/../users", "/jobs/%2e%2E/users", "..", "/a/./b?x"])
async def test_an_id_cannot_lead_to_another_path(setup: Setup, path: str) -> None:
    with pytest.raises(Forbidden):
        await setup.http().get(path)
    assert setup.vendor.total == 0


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1", "http://", "http://a:b/", ""])
async def test_an_address_that_is_none_is_refused(setup: Setup, url: str) -> None:
    async def endpoint(_: bool) -> Endpoint:
        return Endpoint(url)

    with pytest.raises(Forbidden):
        await setup.client.bind(endpoint, Budget(time.monotonic() + 5)).get("/x")


@pytest.mark.parametrize("token", [f"{SECRET}\r\nX-Evil: 1", f"{SECRET}\n", f"{SECRET}\u2026"])
async def test_a_broken_credential_is_told_and_not_shown(setup: Setup, token: str) -> None:
    setup.tokens = [token]
    with pytest.raises(Unauthenticated) as raised:
        await setup.http().get("/")
    assert SECRET not in str(raised.value)
    assert raised.value.__suppress_context__
    assert setup.vendor.total == 0


async def test_a_number_that_json_cannot_hold_is_told(setup: Setup) -> None:
    with pytest.raises(InvalidTask, match="JSON"):
        await setup.http().post("/", json={"x": float("nan")})


async def test_credentials_and_queries_show_up_nowhere(
    setup: Setup, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    setup.vendor.script("*", "*", Response(400, f"token {SECRET} is bad"), None, Cut(), Delay(60))
    failed = []
    for _ in range(4):
        http = setup.http(limit=0.3, retries=False)
        try:
            await http.post("/jobs", params={"sig": "c4nary-query"}, headers={"X": "c4nary-header"})
        except AgentError as error:
            failed.append(redact(str(error)))
    assert len(failed) == 3
    exported = " ".join(span.to_json() for span in spans.get_finished_spans())
    assert exported.count("/api/jobs") == 4
    logged = " ".join(r.getMessage() for r in caplog.records if r.name != "flyteagents.testing")
    assert "c4nary" not in exported + logged + " ".join(failed)


async def test_each_attempt_is_a_client_span_that_the_vendor_can_join(
    setup: Setup, spans: InMemorySpanExporter
) -> None:
    setup.vendor.script("*", "*", Response(503))
    tracer = trace.get_tracer("test")
    with tracer.start_as_current_span("outer") as outer:
        await setup.http().get("/jobs", params={"q": "1"})
    first, second, _ = spans.get_finished_spans()
    assert first.kind is trace.SpanKind.CLIENT
    assert _parent(first) == _parent(second) == outer.get_span_context().span_id
    assert first.name == "GET"
    url = f"{setup.vendor.url}/api/jobs"
    assert first.attributes == {
        "http.request.method": "GET", "url.full": url, "server.address": "127.0.0.1",
        "server.port": setup.vendor.port, "http.response.status_code": 503, "error.type": "503",
        "flyte.agent": "acme",
    }  # fmt: skip
    assert not first.status.is_ok
    assert second.attributes is not None
    assert second.attributes["http.request.resend_count"] == 1
    assert second.status.is_ok
    context = second.get_span_context()
    assert context is not None
    sent = setup.vendor.requests[1].headers["traceparent"]
    assert sent.startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")


async def test_a_request_without_reply_is_a_failed_span(
    setup: Setup, spans: InMemorySpanExporter
) -> None:
    setup.vendor.script("*", "*", Cut())
    with pytest.raises(Unavailable):
        await setup.http(retries=False).get("/")
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["error.type"] == "Unavailable"
    assert "http.response.status_code" not in span.attributes
    assert span.events == ()


async def test_no_connection_is_told_with_host_and_port(setup: Setup) -> None:
    await setup.vendor.down()
    with pytest.raises(Unavailable, match=rf"could not connect to 127.0.0.1:{setup.vendor.port}"):
        await setup.http(retries=False).get("/", params={"q": SECRET})


async def test_a_client_of_a_loop_that_has_ended_can_be_closed(setup: Setup) -> None:
    client = VendorClient("acme", ["127.0.0.1"])

    async def ask() -> None:
        budget = Budget(time.monotonic() + 5, retries=False)
        with contextlib.suppress(Unavailable):
            await client.bind(closed_port, budget).get("/")

    async def closed_port(_: bool) -> Endpoint:
        return Endpoint("http://127.0.0.1:9")

    await asyncio.to_thread(asyncio.run, ask())
    await client.aclose()


def _parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None
