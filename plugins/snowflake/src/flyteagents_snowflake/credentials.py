"""Whose credentials a call uses, and the token that each becomes.

The SQL API takes three kinds: a JWT signed with a key pair, an OAuth access token, a programmatic
access token. https://docs.snowflake.com/en/developer-guide/sql-api/authenticating
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from flyteagents import Call, Unauthenticated
from flyteagents.kit.credentials import for_tenant
from flyteagents.kit.oauth import oauth_token
from flyteagents.kit.tokens import Token
from flyteagents_snowflake.config import Login
from flyteagents_snowflake.settings import SnowflakeSettings

KIND = "X-Snowflake-Authorization-Token-Type"
LIFE = 3540
"""Seconds for which a JWT is good; Snowflake takes an hour."""
SKEW = 300
"""Seconds by which this machine's clock may be ahead of Snowflake's."""
_KINDS: Mapping[Login, str] = {
    "key": "KEYPAIR_JWT",
    "oauth": "OAUTH",
    "token": "PROGRAMMATIC_ACCESS_TOKEN",
}

_SENT: Mapping[Login, str] = {
    "key": "snowflake_private_key",
    "oauth": "snowflake_oauth",
    "token": "snowflake_token",
}


@dataclass(frozen=True)
class Source:
    """What a token is made of. subject: the account and the user, as a token names them.
    url: the account's address, for its own token endpoint. shown: names it in messages."""

    login: Login
    secret: str = field(repr=False)
    shown: str
    subject: str
    url: str
    passphrase: str | None = field(default=None, repr=False)

    @property
    def identity(self) -> str:
        return "\0".join((self.login, self.secret, self.passphrase or "", self.subject, self.url))

    @property
    def headers(self) -> Mapping[str, str]:
        return {KIND: _KINDS[self.login]}


async def source_of(
    call: Call, settings: SnowflakeSettings, subject: str, url: str, login: Login | None
) -> Source:
    """The credentials of a call: those that the request itself carries, those that the settings
    give its project and domain, or the service's. Raises Unauthenticated where there are none."""
    names: Mapping[Login, str] = {
        "key": settings.private_key_secret,
        "oauth": settings.oauth_secret,
        "token": settings.token_secret,
    }
    wanted = [login] if login else list(names)
    named = for_tenant(settings.credentials, call.identity)

    for kind in wanted:
        # flyte-sdk has a name of its own for what a task sends, whatever the service's are called.
        for name in dict.fromkeys((names[kind], _SENT[kind])):
            if secret := await call.sent_secret(name):
                passphrase = await call.sent_secret(f"{name}_passphrase")
                return Source(kind, secret, f"the task's {name}", subject, url, passphrase)
    if named is not None:
        return await source_named(call, named, subject, url, login)
    for kind in wanted:
        if secret := await call.find_secret(names[kind]):
            passphrase = await call.find_secret(f"{names[kind]}_passphrase")
            return Source(kind, secret, f"the secret {names[kind]}", subject, url, passphrase)
    try:
        await call.secret(names[wanted[0]])  # says where it could be
    except Unauthenticated as error:
        others = " or ".join(f"the secret {names[kind]}" for kind in wanted[1:])
        also = f"; or log in by {others}" if others else ""
        raise Unauthenticated(f"{error.message}{also}") from None
    raise AssertionError("a secret that was not there is there")


async def source_named(
    call: Call, name: str, subject: str, url: str, login: Login | None = None
) -> Source:
    """The credentials in a secret of the service's. Raises Unauthenticated without it."""
    secret = await call.secret(name)
    passphrase = await call.find_secret(f"{name}_passphrase")
    kind = login or kind_of(secret)
    return Source(kind, secret, f"the secret {name}", subject, url, passphrase)


def kind_of(secret: str) -> Login:
    """What a secret holds: a key, the JSON of an OAuth client, or else an access token."""
    text = secret.strip()
    if text.startswith("{"):
        return "oauth"
    return "key" if text.startswith("-----BEGIN") else "token"


async def obtain(source: Source, call: Call) -> Token:
    """A token of the source's. Raises Unauthenticated, Unavailable."""
    if source.login == "key":
        # Decrypting a key takes a tenth of a second.
        return await call.blocking(signed, source)
    # What is no JSON is an access token that somebody else has got, and goes as it is.
    if source.login == "oauth" and kind_of(source.secret) == "oauth":
        return await _granted(source, call)
    # Without an end: the secret is read for each request, and a changed one is another source.
    return Token(source.secret.strip(), math.inf)


def signed(source: Source) -> Token:
    """A JWT of a key pair. Raises Unauthenticated."""
    # Not for agents without a key: the library takes a tenth of a second to import.
    import jwt
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    key = _key(source)
    if not isinstance(key, RSAPrivateKey):
        raise Unauthenticated(f"{source.shown} is no RSA key, which Snowflake needs")
    now = int(time.time())
    claims = {
        "iss": f"{source.subject}.{_fingerprint(key)}",
        "sub": source.subject,
        "iat": now - SKEW,
        "exp": now - SKEW + LIFE,
    }
    return Token(jwt.encode(claims, key, algorithm="RS256"), now - SKEW + LIFE)


def _key(source: Source) -> object:
    """As flytekit's connector reads it, and encrypted, in one line, or without its armour."""
    from cryptography.hazmat.primitives.serialization import (
        load_der_private_key,
        load_pem_private_key,
    )

    text = source.secret.strip().replace("\\n", "\n")
    passphrase = source.passphrase.encode() if source.passphrase else None
    try:
        if text.startswith("-----BEGIN"):
            return load_pem_private_key(text.encode(), passphrase)
        return load_der_private_key(base64.b64decode(text, validate=True), passphrase)
    except TypeError:
        # The library's words for a passphrase that is missing, or one too many.
        if passphrase is None:
            raise Unauthenticated(
                f"{source.shown} is encrypted, and there is no secret with its passphrase: the "
                "same name with _passphrase behind it"
            ) from None
        return _key(Source(**{**source.__dict__, "passphrase": None}))
    except (ValueError, binascii.Error):
        raise Unauthenticated(
            f"{source.shown} is no private key in PEM (PKCS#8){_instead(text, passphrase)}"
        ) from None


def _instead(text: str, passphrase: bytes | None) -> str:
    """What it may be that is no private key."""
    if "PUBLIC KEY" in text:
        return "; it is the public one"
    if text.startswith(("/", "~", "file:")):
        return "; the secret must be the key itself, and not its path"
    return "; is the passphrase right?" if passphrase else ""


def _fingerprint(key: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    raw = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"SHA256:{base64.b64encode(hashlib.sha256(raw).digest()).decode()}"


def asks_its_account(source: Source) -> bool:
    """Whether its token comes from the account's own endpoint. Raises Unauthenticated for an OAuth
    client that is none."""
    if source.login != "oauth" or kind_of(source.secret) != "oauth":
        return False
    return not _client(source).get("token_url")


async def _granted(source: Source, call: Call) -> Token:
    """From the token endpoint of the secret's client, or else the account's own."""
    client = _client(source)
    refresh = client.get("refresh_token")
    grant: Literal["refresh_token", "client_credentials"] = (
        "refresh_token" if refresh else "client_credentials"
    )
    form = {"grant_type": grant, "refresh_token": refresh, "scope": client.get("scope")}
    return await oauth_token(
        call,
        str(client.get("token_url") or f"{source.url}/oauth/token-request"),
        form={key: str(value) for key, value in form.items() if value},
        basic=(str(client["client_id"]), str(client["client_secret"])),
    )


def _client(source: Source) -> Mapping[str, Any]:
    """The OAuth client that a secret holds."""
    try:
        client: Mapping[str, Any] = json.loads(source.secret)
        _ = client["client_id"], client["client_secret"]
    except (ValueError, KeyError, TypeError):
        raise Unauthenticated(
            f"{source.shown} is no JSON object with client_id and client_secret"
        ) from None
    return client
