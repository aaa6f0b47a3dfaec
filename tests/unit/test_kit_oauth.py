"""A token from an OAuth token endpoint, over a real socket."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator
from urllib.parse import parse_qs

import pytest
from tests.unit.kit_call import KitCall

from flyteagents import AgentError, Forbidden, Throttled, Unauthenticated, Unavailable
from flyteagents._redact import redact
from flyteagents.kit.oauth import UNKNOWN_LIFE, oauth_token
from flyteagents.testing import DropReply, FakeVendor, Nonsense, Request, Response

CALL = KitCall()
FORM = {"grant_type": "client_credentials", "scope": "all"}


async def answer(request: Request) -> Response:
    return Response(200, {"access_token": "t0ken", "token_type": "bearer", "expires_in": 3599})


@pytest.fixture
async def service() -> AsyncIterator[FakeVendor]:
    async with FakeVendor(answer) as vendor:
        yield vendor
        await CALL.client.aclose()


async def test_one_post_of_a_form_gives_a_token(service: FakeVendor) -> None:
    before = time.time()
    token = await oauth_token(
        CALL,
        f"{service.url}/oidc/token",
        form=FORM,
        basic=("my client", "s3cr/t+"),
        headers={"x-tenant": "t"},
    )
    assert token.value == "t0ken"
    assert before + 3599 <= token.expires <= time.time() + 3599
    [request] = service.requests
    assert (request.method, request.path) == ("POST", "/oidc/token")
    assert parse_qs(request.body.decode()) == {name: [value] for name, value in FORM.items()}
    pair = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
    assert pair == "my+client:s3cr%2Ft%2B"
    assert request.headers["x-tenant"] == "t"


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (400, "invalid_grant", "the code has expired"),
        (401, "invalid_client", "Client authentication failed"),
        (403, "access_denied", "not for this tenant"),
        (404, "not_found", "no such realm"),
        (200, "bad_verification_code", "some services answer so"),
    ],
)
async def test_a_refusal_names_what_was_refused_and_the_services_words(
    service: FakeVendor, status: int, error: str, words: str
) -> None:
    refusal = {"error": error, "error_description": words}
    service.script("*", "*", Response(status, refusal), repeat=True)
    with pytest.raises(Unauthenticated) as raised:
        await oauth_token(CALL, service.url, form=FORM, basic=("client-7", "s3cr3t-of-7"))
    assert raised.value.code == error
    for part in ("client-7", "client_credentials", error, words, "127.0.0.1"):
        assert part in raised.value.message
    assert "s3cr3t-of-7" not in raised.value.message
    assert service.total == 1


async def test_a_refusal_without_words_tells_the_status(service: FakeVendor) -> None:
    page = Response(403, "<html>blocked</html>", {"content-type": "text/html"})
    service.script("*", "*", page, repeat=True)
    with pytest.raises(Unauthenticated, match=r"the credentials .*it answered 403"):
        await oauth_token(CALL, service.url, form=FORM)


@pytest.mark.usefixtures("asked_once")
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Response(429), Throttled),
        (Response(503), Unavailable),
        (Response(500), Unavailable),
        (Response(400, {"error": "temporarily_unavailable"}), Unavailable),
        (Response(200, {"token": "under another name"}), Unavailable),
        (Response(200, "no JSON"), Unavailable),
        (Response(302, headers={"location": "http://elsewhere.example/"}), Unavailable),
        (DropReply(), Unavailable),
        (Nonsense(), Unavailable),
    ],
)
async def test_a_service_that_cannot_answer_now_may_later(
    service: FakeVendor, fault: Response, kind: type[AgentError]
) -> None:
    service.script("*", "*", fault, repeat=True)
    with pytest.raises(AgentError) as raised:
        await oauth_token(CALL, service.url, form=FORM)
    assert type(raised.value) is kind


async def test_a_service_that_was_busy_is_asked_again_while_there_is_time(
    service: FakeVendor,
) -> None:
    service.script("*", "*", Response(503), DropReply())
    assert (await oauth_token(CALL, service.url, form=FORM)).value == "t0ken"
    assert service.total == 3


@pytest.mark.parametrize(
    ("told", "lasts"),
    [(60, 60), ("60", 60), (None, UNKNOWN_LIFE), ("soon", UNKNOWN_LIFE), (0, UNKNOWN_LIFE)],
)
async def test_a_life_may_be_a_text_or_unknown(
    service: FakeVendor, told: object, lasts: float
) -> None:
    service.script("*", "*", Response(200, {"access_token": "t", "expires_in": told}))
    token = await oauth_token(CALL, service.url, form=FORM)
    assert token.expires == pytest.approx(time.time() + lasts, abs=2)


async def test_a_host_that_is_not_allowed_gets_no_credentials(service: FakeVendor) -> None:
    elsewhere = service.url.replace("127.0.0.1", "127.0.0.2")
    with pytest.raises(Forbidden, match=r"127\.0\.0\.2"):
        await oauth_token(CALL, elsewhere, form=FORM)
    assert service.total == 0


async def test_what_was_sent_is_masked_where_it_is_quoted(service: FakeVendor) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "rEfReSh-c4nary"}
    await oauth_token(CALL, service.url, form=form, basic=("me", "cLiEnT-c4nary"))
    assert "c4nary" not in redact("rEfReSh-c4nary and cLiEnT-c4nary were not taken")
