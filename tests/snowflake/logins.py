"""Who may log in to the fake Snowflake: every kind of credential is really checked.

https://docs.snowflake.com/en/developer-guide/sql-api/authenticating
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from flyteagents.testing import Request, Response

LIFETIME = 3600.0
TOKEN_PATH = "/oauth/token-request"


@cache
def private_key(number: int = 0, passphrase: str = "") -> str:
    """A key that is nobody's, as PKCS#8: encrypted where there is a passphrase."""
    encryption = (
        serialization.BestAvailableEncryption(passphrase.encode())
        if passphrase
        else serialization.NoEncryption()
    )
    return (
        _key(number)
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        .decode()
    )


@cache
def _key(number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def fingerprint(public: rsa.RSAPublicKey) -> str:
    """As DESCRIBE USER shows it."""
    raw = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return "SHA256:" + base64.b64encode(hashlib.sha256(raw).digest()).decode()


@dataclass
class Logins:
    """keys: users by "ACCOUNT.USER" with the numbers of their private keys. clients: OAuth
    clients and their secrets. refresh: refresh tokens. pats: programmatic access tokens.

    lifetime: seconds for which an OAuth token is good. given: OAuth tokens, the newest last.
    seen: "KIND user" of each request that was let in. asked: requests for OAuth tokens.
    """

    keys: dict[str, list[int]] = field(default_factory=dict)
    clients: dict[str, str] = field(default_factory=dict)
    refresh: set[str] = field(default_factory=set)
    pats: set[str] = field(default_factory=set)
    lifetime: float = 600.0
    given: dict[str, float] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    asked: list[Mapping[str, str]] = field(default_factory=list)

    def refusal(self, request: Request) -> Response | None:
        """None for who may come in."""
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        kind = request.headers.get("x-snowflake-authorization-token-type", "")
        if kind == "KEYPAIR_JWT":
            return self._jwt(bearer)
        if kind == "OAUTH":
            end = self.given.get(bearer)
            if end is None:
                return refused("390303", "Invalid OAuth access token.")
            if time.time() > end:
                return refused("390318", "OAuth access token expired.")
            self.seen.append("OAUTH")
            return None
        if kind == "PROGRAMMATIC_ACCESS_TOKEN":
            if bearer not in self.pats:
                return refused("394400", "Programmatic access token is invalid.")
            self.seen.append("PAT")
            return None
        return refused("390101", "Authorization header not found in the request data.")

    def token(self, request: Request) -> Response:
        """The token endpoint."""
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        self.asked.append(form)
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        name, secret = form.get("client_id", ""), form.get("client_secret", "")
        if scheme == "Basic":
            name, _, secret = base64.b64decode(text).decode().partition(":")
        if not secret or self.clients.get(name) != secret:
            return Response(401, {"error": "invalid_client", "error_description": "who?"})
        grant = form.get("grant_type")
        if grant == "refresh_token" and form.get("refresh_token") not in self.refresh:
            return Response(400, {"error": "invalid_grant", "error_description": "token expired"})
        if grant not in ("refresh_token", "client_credentials"):
            return Response(400, {"error": "unsupported_grant_type"})
        token = f"oauth-token-number-{len(self.given) + 1}"
        self.given[token] = time.time() + self.lifetime
        body = {"access_token": token, "token_type": "Bearer", "expires_in": int(self.lifetime)}
        return Response(200, body)

    def _jwt(self, token: str) -> Response | None:
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
            subject = str(claims["sub"])
            for number in self.keys.get(subject, ()):
                public = _key(number).public_key()
                if claims["iss"] != f"{subject}.{fingerprint(public)}":
                    continue
                jwt.decode(token, public, algorithms=["RS256"])
                if claims["exp"] - claims["iat"] > LIFETIME:
                    break
                self.seen.append(f"JWT {subject}")
                return None
        except (jwt.InvalidTokenError, KeyError):
            pass
        return refused("390144", "JWT token is invalid. [b1c2d3]")


def refused(code: str, message: str, status: int = 401) -> Response:
    return Response(status, {"code": code, "message": message})
