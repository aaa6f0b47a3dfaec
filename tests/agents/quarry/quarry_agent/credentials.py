"""Whose tokens a call uses, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass, field

from flyteagents import Call
from flyteagents.kit.credentials import for_tenant
from flyteagents.kit.oauth import oauth_token
from flyteagents.kit.tokens import Token
from quarry_agent.settings import QuarrySettings

SECRET = "quarry_client_secret"  # a name


@dataclass(frozen=True)
class Client:
    """An OAuth client. For `Tokens` it is its secret, so a new secret has a new token."""

    id: str
    secret: str = field(repr=False)

    @property
    def identity(self) -> str:
        return f"{self.id}\0{self.secret}"


async def client_of(call: Call, settings: QuarrySettings) -> Client:
    """The client for the project and domain of a call. Raises Unauthenticated without a secret."""
    name = for_tenant(settings.credentials, call.identity) or SECRET
    return Client(settings.client_id, await call.secret(name))


async def obtain(client: Client, call: Call, settings: QuarrySettings) -> Token:
    """A new token, by OAuth's client credentials."""
    form = {"grant_type": "client_credentials", "scope": "statements"}
    url = f"{settings.url}/oauth/token"
    return await oauth_token(call, url, form=form, basic=(client.id, client.secret))
