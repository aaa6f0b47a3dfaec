"""Credentials of their own for some of Flyte's projects and domains.

A setting of the type `ByTenant` has patterns and what counts for them, often the name of a secret:

```python
class AcmeSettings(Settings):  # FLYTEAGENTS_ACME_CREDENTIALS={"sales/*": "sales_token"}
    credentials: ByTenant = Field({}, description="...", examples=['{"sales/*": "sales_token"}'])

name = for_tenant(self.settings.credentials, call.identity) or "acme_token"
token = await call.secret(name)
```
In `check` there is no task, so nothing picks one of them; `check_all` tries each.

Which project and domain a task has is what Flyte says; nothing proves it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

from flyteagents import AgentError, Identity
from flyteagents._tenants import TenantPattern, TenantPatterns, fits_tenant

__all__ = ["ByTenant", "TenantPattern", "TenantPatterns", "check_all", "for_tenant"]


def _decode(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else {}
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from None


ByTenant = Annotated[Mapping[TenantPattern, str], NoDecode, BeforeValidator(_decode)]
"""The type of a setting whose variable is a JSON object of project/domain patterns and texts."""


def for_tenant(mapping: Mapping[str, str], identity: Identity) -> str | None:
    """What the first pattern that fits has; None where none does."""
    for pattern, value in mapping.items():
        if fits_tenant(pattern, identity.project, identity.domain):
            return value
    return None


async def check_all(
    own: Callable[[], Awaitable[str]],
    tenants: Mapping[str, str],
    tenant: Callable[[str], Awaitable[str]],
) -> str:
    """What an agent's `check` returns when it has credentials for some tenants besides its own.

    own: tries the service's own. tenants: the setting. tenant: tries what one of its patterns has.
    Each returns a sentence, or raises an AgentError. One that fails keeps none of the others from
    being tried; the first one's error is then raised, with the words of all that failed.

    ```python
    async def check(self, call: Call) -> str:
        return await check_all(
            own=lambda: self._check_own(call),
            tenants=self.settings.credentials,
            tenant=lambda name: self._check_secret(name, call),
        )
    ```
    """
    patterns: dict[str, list[str]] = {}
    for pattern, value in tenants.items():
        patterns.setdefault(value, []).append(pattern)

    good: list[str] = []
    bad: list[str] = []
    first: AgentError | None = None

    async def tell(trying: Awaitable[str], whose: str = "") -> None:
        nonlocal first
        try:
            good.append(whose + await trying)
        except AgentError as error:
            first = first or error
            bad.append(f"{whose}{error}")

    await tell(own())
    for value, named in patterns.items():
        await tell(tenant(value), f"{', '.join(named)}: ")

    if first is not None:
        # The code is in the words already, where it is the one's that it belongs to.
        first.message, first.code = "; ".join(bad), None
        raise first
    return "; ".join(good)
