"""A token from an OAuth 2.0 token endpoint, by the agent's own HTTP: the same limits, spans and
allowed hosts as its other requests.

https://www.rfc-editor.org/rfc/rfc6749, and for the exchange of tokens rfc8693
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus, urlsplit

from flyteagents import Call, Endpoint, Reply, Unauthenticated, Unavailable
from flyteagents._redact import remember
from flyteagents.kit.texts import excerpt
from flyteagents.kit.tokens import Token

__all__ = ["oauth_token"]

UNKNOWN_LIFE = 300.0
"""Seconds for which a token is used that does not say how long it lasts."""
_TEXT = 300
# A 404 too: read as the vendor's, it would say that the job is gone.
_REFUSALS = frozenset(range(400, 500)) - {408, 425, 429}
# Not the RFC's for this endpoint, but some services answer 400 with one of them.
_PASSING = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
_SECRETS = frozenset(
    {
        "assertion",
        "client_assertion",
        "client_secret",
        "password",
        "refresh_token",
        "subject_token",
    }
)


async def oauth_token(
    call: Call,
    url: str,
    *,
    form: Mapping[str, str],
    basic: tuple[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Token:
    """The token that the endpoint `url` gives for `form` (`grant_type` and what goes with it).

    basic: the client's id and secret, for the Authorization header; else `form` has them.
    headers: more headers.

    Raises Unauthenticated, with the service's words and its error as the code, where it refuses;
    Throttled or Unavailable where it cannot answer now; Forbidden for a host that is not allowed.
    """
    _remember(form, basic)
    sent = dict(headers or {})
    if basic is not None:
        sent["authorization"] = _basic(*basic)

    endpoint = Endpoint(url, headers=sent)
    reply = await call.http.post("", endpoint=endpoint, form=form, accept=_REFUSALS)
    answer = _answer(reply)
    # Without the name and the password that a URL may have before it.
    host = urlsplit(url).netloc.rpartition("@")[2]

    # Some services say no with a 200, GitHub's for one.
    if reply.status in _REFUSALS or "error" in answer:
        raise _refusal(reply, answer, host, form, basic)
    value = answer.get("access_token")
    if not isinstance(value, str) or not value:
        raise Unavailable(f"the reply of the token service {host} has no access_token")
    return Token(value, time.time() + _seconds(answer.get("expires_in")))


def _remember(form: Mapping[str, str], basic: tuple[str, str] | None) -> None:
    """Token services quote in errors what they were sent."""
    for name in _SECRETS & form.keys():
        remember(form[name])
    if basic is not None:
        remember(basic[1])


def _basic(client: str, secret: str) -> str:
    """Both are form-encoded first: section 2.3.1 of the RFC."""
    pair = f"{quote_plus(client)}:{quote_plus(secret)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _answer(reply: Reply) -> Mapping[str, Any]:
    try:
        answer = reply.json()
    except Unavailable:
        if reply.status in _REFUSALS:
            return {}  # a gateway's page; the status says enough
        raise
    return answer if isinstance(answer, dict) else {}


def _refusal(
    reply: Reply,
    answer: Mapping[str, Any],
    host: str,
    form: Mapping[str, str],
    basic: tuple[str, str] | None,
) -> Unauthenticated | Unavailable:
    error = answer.get("error")
    code = error if isinstance(error, str) else ""
    words = excerpt(str(answer.get("error_description") or ""), _TEXT)
    told = ": ".join(filter(None, (code, words))) or f"it answered {reply.status}"
    if code in _PASSING:
        return Unavailable(f"the token service {host} cannot answer now: {told}", code=code)

    client = basic[0] if basic else form.get("client_id", "")
    what = f"the client {client!r}" if client else "the credentials"
    grant = form.get("grant_type", "no grant_type").rpartition(":")[2]
    return Unauthenticated(
        f"the token service {host} refuses {what} ({grant}): {told}", code=code or None
    )


def _seconds(value: object) -> float:
    """`expires_in` is a number, which some services write as text."""
    try:
        seconds = float(value) if isinstance(value, str | int | float) else UNKNOWN_LIFE
    except ValueError:
        return UNKNOWN_LIFE
    return seconds if seconds > 0 else UNKNOWN_LIFE
