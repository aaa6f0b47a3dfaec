"""Whose credentials a call has, and the tokens that they open.

In this order: what a run of flytekit's connector brings along; the `databricks_token` that a task
of Flyte 2 sends; what the settings give the project and domain; what is in the task's Kubernetes
namespace; the service's own. What is named and cannot be used is an error.

Nothing here decides where a token goes: the kernel sends credentials to allowed hosts only.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flyteagents import Call, Unauthenticated
from flyteagents.kit.credentials import for_tenant
from flyteagents.kit.oauth import oauth_token
from flyteagents.kit.tokens import Token, Tokens
from flyteagents_databricks.kubernetes import Account, Namespaces
from flyteagents_databricks.settings import AuthType, DatabricksSettings

# Names of secrets.
SENT = "databricks_token"
SHARED = ("flyte_databricks_access_token", "flyte_databricks_api_token", SENT)
CLIENT_SECRET = "databricks_client_secret"  # noqa: S105 # a name
NAMESPACE_TOKEN = "databricks-token"  # noqa: S105 # a name
_EXCHANGE = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "scope": "all-apis",
}


@dataclass(frozen=True)
class Asked:
    """How a task or a run says that its credentials are to be found; see the fields of the job.

    url: the workspace's address.
    """

    url: str
    auth_type: AuthType | None = None
    client_id: str | None = None
    namespace: str | None = None
    token_secret: str | None = None
    oauth_secret_name: str | None = None
    oidc_audience: str | None = None


@dataclass(frozen=True)
class Login:
    """Where a token for one workspace comes from; `shown` names it in errors.

    token: itself, a personal one. secret: a service principal's. file, account: where the token
    is that Databricks trusts, which is exchanged for one of its own.
    """

    url: str
    shown: str
    token: str = field(default="", repr=False)
    client_id: str = ""
    secret: str = field(default="", repr=False)
    file: Path | None = None
    namespace: str = ""
    account: Account | None = None

    @property
    def identity(self) -> str:
        parts = (self.url, self.token, self.client_id, self.secret, self.file, self.namespace)
        return "\0".join(map(str, (*parts, self.account)))


class Credentials:
    """Finds logins, and keeps their tokens. Make it in `open`, and close it in `close`."""

    def __init__(self, settings: DatabricksSettings, namespaces: Namespaces) -> None:
        self._settings = settings
        self._namespaces = namespaces
        self._tokens: Tokens[Login, Token] = Tokens(self._obtain)

    def close(self) -> None:
        self._tokens.close()

    async def token(self, login: Login, call: Call) -> str:
        """A bearer token. Raises Unauthenticated, or a VendorError where there is none yet."""
        return login.token or (await self._tokens.get(login, call)).value

    async def login(self, asked: Asked, call: Call) -> Login:
        """Whose credentials count. Raises Unauthenticated where there are none."""
        if sent := await call.sent_secret(SENT):
            return Login(asked.url, f"the task's {SENT}", token=sent)
        if given := await self._given(asked, call):
            return given
        kind = asked.auth_type or self._settings.auth_type
        if kind == "oauth_m2m":
            return await self._principal(asked, call)
        if kind == "oidc_federation":
            return await self._federated(asked, call)
        return await self._personal(asked, call, only=kind == "pat")

    async def _given(self, asked: Asked, call: Call) -> Login | None:
        """What the settings give the project and domain, and the workspace."""
        fitting = {
            pattern: named
            for pattern, named in self._settings.credentials.items()
            if is_for(asked.url, named)
        }
        named = for_tenant(fitting, call.identity)
        return None if named is None else await self.named(asked.url, named, call)

    async def named(self, url: str, named: str, call: Call) -> Login:
        """The credentials that a setting names for a workspace. Raises Unauthenticated."""
        name = named.partition("@")[0]
        text, shown = (await call.secret(name)).strip(), f"the secret {name}"
        if not text.startswith("{"):
            return Login(url, shown, token=text)
        try:
            pair = json.loads(text)
            client, secret = str(pair["client_id"]), str(pair["client_secret"])
        except (ValueError, KeyError):
            raise Unauthenticated(
                f"{shown} is not a token, and no JSON object with client_id and client_secret"
            ) from None
        return Login(url, shown, client_id=client, secret=secret)

    async def _personal(self, asked: Asked, call: Call, *, only: bool) -> Login:
        """A personal access token; or the service's own principal, unless the type is `pat`."""
        name = asked.token_secret or NAMESPACE_TOKEN
        values = await self._namespaced(asked.namespace, name, call)
        if values and values.get("token"):
            return Login(asked.url, f"{asked.namespace}/{name}", token=values["token"])
        for shared in SHARED:
            if found := await call.find_secret(shared):
                return Login(asked.url, f"the secret {shared}", token=found)
        if found := os.environ.get("DATABRICKS_TOKEN"):
            return Login(asked.url, "DATABRICKS_TOKEN", token=found)
        if not only and self._settings.client_id:
            if await self._client_secret(call):
                return await self._principal(asked, call)
            if self._settings.oidc_token_file:
                return await self._federated(asked, call)
        raise Unauthenticated(
            f"there is no token for {asked.url}: set FLYTEAGENTS_SECRET_{SHARED[0].upper()}, "
            "DATABRICKS_TOKEN, or DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET"
        )

    async def _principal(self, asked: Asked, call: Call) -> Login:
        """A service principal and its secret."""
        name = asked.oauth_secret_name or self._settings.oauth_secret_name
        values = await self._namespaced(asked.namespace, name, call) or {}
        if values.get("client_secret"):
            client = values.get("client_id") or asked.client_id or self._settings.client_id
            shown, secret = f"{asked.namespace}/{name}", values["client_secret"]
        else:
            client = asked.client_id or self._settings.client_id
            shown, secret = "the service's own principal", await self._client_secret(call) or ""
        if not client or not secret:
            raise Unauthenticated(
                f"there is no service principal for {asked.url}: set DATABRICKS_CLIENT_ID and "
                "DATABRICKS_CLIENT_SECRET"
            )
        return Login(asked.url, shown, client_id=client, secret=secret)

    async def _federated(self, asked: Asked, call: Call) -> Login:
        """A token that Databricks trusts: the namespace's service account's, or the service's."""
        settings = self._settings
        if asked.namespace and settings.namespace_secrets:
            audience = asked.oidc_audience or settings.oidc_audience
            account = await self._namespaces.account(asked.namespace, audience, call)
            if account is not None:
                shown = f"the service account {asked.namespace}/{account.name}"
                return Login(
                    asked.url,
                    shown,
                    client_id=account.client_id,
                    namespace=asked.namespace,
                    account=account,
                )
        client, file = asked.client_id or settings.client_id, settings.oidc_token_file
        if not client or file is None:
            raise Unauthenticated(
                f"there is nothing to federate with {asked.url}: set DATABRICKS_CLIENT_ID and "
                "FLYTEAGENTS_DATABRICKS_OIDC_TOKEN_FILE"
            )
        return Login(asked.url, f"the token in {file}", client_id=client, file=file)

    async def _namespaced(
        self, namespace: str | None, name: str, call: Call
    ) -> Mapping[str, str] | None:
        if not namespace or not self._settings.namespace_secrets:
            return None
        return await self._namespaces.secret(namespace, name, call)

    async def _client_secret(self, call: Call) -> str | None:
        found = await call.find_secret(CLIENT_SECRET)
        return found or os.environ.get(CLIENT_SECRET.upper())

    async def _obtain(self, login: Login, call: Call) -> Token:
        """https://docs.databricks.com/dev-tools/auth/oauth-m2m, and .../oauth-federation"""
        url = f"{login.url}/oidc/v1/token"
        if login.secret:
            form = {"grant_type": "client_credentials", "scope": "all-apis"}
            return await oauth_token(call, url, form=form, basic=(login.client_id, login.secret))
        if login.account is not None:
            subject = await self._namespaces.token(login.namespace, login.account, call)
        elif login.file is not None:
            subject = await call.blocking(_read, login.file)
        else:
            return Token(login.token, math.inf)
        form = {**_EXCHANGE, "client_id": login.client_id, "subject_token": subject}
        return await oauth_token(call, url, form=form)


def is_for(url: str, named: str) -> bool:
    """Whether what a setting names, `NAME` or `NAME@HOST`, counts for this workspace."""
    hosts = named.partition("@")[2]
    return not hosts or fnmatchcase(urlsplit(url).hostname or "", hosts)


def _read(path: Path) -> str:
    try:
        text = path.read_text().strip()
    except OSError as error:
        raise Unauthenticated(f"the token file {path}: {error.strerror}") from None
    if not text:
        raise Unauthenticated(f"the token file {path} is empty")
    return text


def asked_of(url: str, of: Any) -> Asked:
    """How a run, or anything with its fields, says that its credentials are to be found."""
    return Asked(
        url,
        auth_type=of.auth_type,
        client_id=of.client_id,
        namespace=of.namespace,
        token_secret=of.token_secret,
        oauth_secret_name=of.oauth_secret_name,
        oidc_audience=of.oidc_audience,
    )
