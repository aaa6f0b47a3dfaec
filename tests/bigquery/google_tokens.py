"""Google's token endpoints, as far as google-auth asks them, and keys whose tokens come from there.

Tells nothing but tokens: OAuth, the security token service, and IAM's generateAccessToken.
"""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from flyteagents.testing import FakeVendor, Request, Response

EMAIL = "robot@p.iam.gserviceaccount.com"


class MetadataServer(FakeVendor):
    """The metadata server of Google's machines, as far as google-auth asks it for a token."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(self._handle, port=port)

    async def _handle(self, request: Request) -> Response:
        flavor = {"metadata-flavor": "Google"}
        if request.path.endswith("/token"):
            token = {"access_token": "ya29.of-the-machine", "expires_in": 3600}
            return Response(200, {**token, "token_type": "Bearer"}, flavor)
        return Response(200, {"email": EMAIL, "scopes": []}, flavor)


class GoogleTokens(FakeVendor):
    """given: tokens, the newest last. lifetime: seconds. who: subjects and audiences of requests
    for them. open: clear it, and replies wait until it is set.
    """

    def __init__(self, lifetime: int = 3600) -> None:
        super().__init__(self._handle)
        self.lifetime = lifetime
        self.given: list[str] = []
        self.who: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def _handle(self, request: Request) -> Response:
        reply = self._reply(request)
        await self.open.wait()
        return reply

    def _reply(self, request: Request) -> Response:
        token = f"ya29.token-number-{len(self.given) + 1}"
        self.given.append(token)
        if request.path.endswith(":generateAccessToken"):
            self.who.append(request.path.rpartition("/")[2].partition(":")[0])
            end = datetime.fromtimestamp(time.time() + self.lifetime, timezone.utc)
            moment = end.strftime("%Y-%m-%dT%H:%M:%SZ")
            return Response(200, {"accessToken": token, "expireTime": moment})
        form = parse_qs(request.body.decode())
        if "assertion" in form:
            claims = jwt.decode(form["assertion"][0], options={"verify_signature": False})
            self.who.append(claims["iss"])
        else:
            self.who.append(form.get("subject_token", ["?"])[0])
        return Response(
            200,
            {
                "access_token": token,
                "expires_in": self.lifetime,
                "token_type": "Bearer",
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            },
        )

    def service_account(self, **more: Any) -> str:
        """The text of a service account's key."""
        return json.dumps(
            {
                "type": "service_account",
                "project_id": "p",
                "private_key_id": "1",
                "private_key": private_key(),
                "client_email": EMAIL,
                "client_id": "1",
                "token_uri": f"{self.url}/token",
                **more,
            }
        )

    def federated(self, token: Path, impersonate: bool = False) -> str:
        """A workload identity federation whose own token is in a file. Its pool is of a project,
        as they mostly are."""
        pool = "projects/123456/locations/global/workloadIdentityPools/x/providers/y"
        info: dict[str, Any] = {
            "type": "external_account",
            "audience": f"//iam.googleapis.com/{pool}",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{self.url}/v1/token",
            "credential_source": {"file": str(token)},
        }
        if impersonate:
            path = f"/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken"
            info["service_account_impersonation_url"] = self.url + path
        return json.dumps(info)


@cache
def private_key() -> str:
    """A key that is nobody's."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
