from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from email.utils import formatdate

import pytest
from tests.unit.vendor_setup import Setup

from flyteagents import (
    AgentError,
    Endpoint,
    JobNotFound,
    Reply,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from flyteagents._vendor.budget import Budget, backoff
from flyteagents.testing import (
    Cut,
    Delay,
    DropReply,
    Held,
    Nonsense,
    Response,
    SlowReply,
)


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    async with Setup.made() as made:
        yield made


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


async def test_a_401_after_which_no_fresh_credentials_can_be_tried_is_passing(
    setup: Setup,
) -> None:
    budget = Budget(time.monotonic() + 60)
    setup.vendor.script("*", "*", Response(401))
    setup.client.observe = lambda status, seconds: setattr(budget, "closed", True)
    with pytest.raises(Unavailable, match="no time was left"):
        await setup.client.bind(setup.endpoint, budget).post("/")
    assert setup.vendor.total == 1


# What a gateway says that lost the vendor's answer.
ENVOY = "upstream connect error or disconnect/reset before headers. reset reason: connection reset"


async def test_missing_credentials_are_not_asked_for_twice(setup: Setup) -> None:
    async def endpoint(fresh: bool) -> Endpoint:
        setup.asked.append(fresh)
        raise Unauthenticated("there is no secret")

    with pytest.raises(Unauthenticated):
        await setup.client.bind(endpoint, Budget(time.monotonic() + 60)).get("/")
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


@pytest.mark.parametrize(
    "fault",
    [Response(500), Response(504), Response(503, ENVOY), Cut(), DropReply(), Nonsense()],
)
async def test_a_post_that_may_have_arrived_is_not_repeated_if_that_is_unsafe(
    setup: Setup, fault: Response | Cut | DropReply | Nonsense
) -> None:
    setup.vendor.script("*", "*", None, fault)
    await setup.http().get("/")  # so that the POST goes over a connection that was used before
    with pytest.raises(Unavailable):
        await setup.http(repeat="unsent").post("/")
    assert setup.vendor.total == 2


@pytest.mark.parametrize(
    "fault",
    [
        Response(429),
        Response(503, {"message": "overloaded"}),
        Response(503, headers={"Retry-After": "0"}),
    ],
)
async def test_a_post_that_the_vendor_turned_away_is_repeated(
    setup: Setup, fault: Response
) -> None:
    setup.vendor.script("*", "*", fault)
    assert (await setup.http(repeat="unsent").post("/")).status == 200


async def test_a_post_that_never_left_is_repeated(setup: Setup) -> None:
    await setup.vendor.down()
    pending = asyncio.ensure_future(setup.http(repeat="unsent").post("/"))
    await asyncio.wait_for(setup.noticed.wait(), 60)
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


@pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 421, 451])
async def test_a_gateways_words_end_no_job(setup: Setup, status: int) -> None:
    page = Response(status, "<!DOCTYPE html><html><h1>nginx</h1></html>")
    bare = Response(status, "", {"content-type": "text/html; charset=utf-8"})
    text = Response(status, "default backend")
    for reply in (page, bare, text, Response(status)):
        setup.vendor.script("*", "*", reply)
        with pytest.raises(Unavailable, match=f"answered {status}.* may be a gateway's"):
            await setup.http(asks=True, retries=False).get("/jobs/1")
    # What asks about no job is told what is wrong with it, and an API's own words always count.
    setup.vendor.script("*", "*", text, Response(status, {"error": "<html> in a text"}))
    for asks in (False, True):
        with pytest.raises(AgentError) as raised:
            await setup.http(asks=asks).get("/jobs/1")
        assert not isinstance(raised.value, Unavailable)


async def test_an_agent_may_know_its_vendors_words_though_they_are_no_json(setup: Setup) -> None:
    def explain(reply: Reply) -> AgentError | None:
        return JobNotFound("gone") if reply.text == "no such job" else None

    http = setup.client.bind(setup.endpoint, Budget(time.monotonic() + 60), explain, asks=True)
    setup.vendor.script("*", "*", Response(404, "no such job"))
    with pytest.raises(JobNotFound):
        await http.get("/jobs/1")


async def test_retry_after_counts_also_where_the_agent_explains_the_reply(setup: Setup) -> None:
    setup.vendor.script("*", "*", Response(403, "too fast", headers={"Retry-After": "0.04"}))
    budget = Budget(time.monotonic() + 60)
    http = setup.client.bind(setup.endpoint, budget, lambda reply: Throttled(reply.text))
    await http.get("/")
    first, second = (request.at for request in setup.vendor.requests)
    assert second - first >= 0.04

    setup.vendor.script("*", "*", Response(403, "", headers={"Retry-After": "70"}))
    with pytest.raises(Throttled) as raised:
        await http.get("/")
    assert raised.value.retry_after == 70


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30.0),
        ("999999", 3600.0),
        ("-1", None),
        ("soon", None),
        ("nan", None),
        ("in 1000 s", 1000.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
async def test_a_wait_that_ends_too_late_is_raised_at_once(
    setup: Setup, value: str, seconds: float | None
) -> None:
    if value == "in 1000 s":
        value = formatdate(time.time() + 1000, usegmt=True)
    setup.vendor.script("*", "*", Response(429, headers={"Retry-After": value}), repeat=True)
    budget = Budget(time.monotonic() + 20)
    if not seconds:  # what is no wait would be tried again
        setup.client.observe = lambda status, seconds: setattr(budget, "closed", True)
    with pytest.raises(Throttled) as raised:
        await setup.client.bind(setup.endpoint, budget).get("/")
    assert raised.value.retry_after == (None if seconds is None else pytest.approx(seconds, abs=30))
    assert setup.vendor.total == 1


@pytest.mark.parametrize("tries", [0, 1, 5, 50])
def test_a_pause_grows_up_to_two_seconds_unless_the_vendor_asks_for_more(tries: int) -> None:
    pauses = [backoff(tries, None) for _ in range(200)]
    limit = min(0.1 * 2**tries, 2.0)
    assert 0 <= min(pauses) < limit / 2 < max(pauses) <= limit
    assert backoff(tries, 30.0) == 30.0
    assert max(backoff(tries, 0.001) for _ in range(200)) > 0.001


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
    budget, answers = Budget(time.monotonic() + 60), asyncio.Event()
    setup.vendor.script("*", "*", Held(answers))
    pending = asyncio.ensure_future(setup.client.bind(setup.endpoint, budget).post("/"))
    await setup.vendor.until(count=1)
    budget.until = time.monotonic()
    answers.set()
    assert (await pending).status == 200


@pytest.mark.parametrize("slow", [Delay(60), SlowReply(60)])
async def test_a_request_has_a_limit_of_its_own(setup: Setup, slow: Delay | SlowReply) -> None:
    await setup.http().get("/")  # the first one also opens the client
    setup.vendor.script("*", "*", slow)
    with pytest.raises(Unavailable, match=r"no answer from 127.0.0.1:\d+ within 0.05 s"):
        await setup.http(limit=0.05, retries=False).get("/")
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

    budget = Budget(time.monotonic() + 60, limit=0.02, retries=False)
    with pytest.raises(Unavailable, match="credentials"):
        await setup.client.bind(endpoint, budget).get("/")


async def test_a_request_with_an_endpoint_of_its_own_does_not_ask_the_agents(setup: Setup) -> None:
    other = Endpoint(f"{setup.vendor.url}/oauth/token", bearer="another-credential")
    http = setup.http()
    await http.post("", endpoint=other, form={"a": "b"})
    [request] = setup.vendor.requests
    assert request.path == "/oauth/token"
    assert request.headers["authorization"] == "Bearer another-credential"
    setup.vendor.script("*", "*", Response(401), repeat=True)
    with pytest.raises(Unauthenticated):
        await http.post("", endpoint=other)
    assert setup.vendor.total == 2  # there is nothing fresher
    assert setup.asked == []


async def test_an_agents_endpoint_may_ask_for_its_token_by_the_same_http(setup: Setup) -> None:
    async def endpoint(fresh: bool) -> Endpoint:
        await http.post("", endpoint=Endpoint(f"{setup.vendor.url}/token"))
        return Endpoint(setup.vendor.url)

    http = setup.client.bind(endpoint, Budget(time.monotonic() + 60))
    await http.get("/jobs")
    assert [request.path for request in setup.vendor.requests] == ["/token", "/jobs"]
