"""Credentials of their own for some of Flyte's projects and domains.

A setting of the type `ByTenant` has patterns and what counts for them, often the name of a secret:

```python
class AcmeSettings(Settings):  # FLYTEAGENTS_ACME_CREDENTIALS={"sales/*": "sales_token"}
    credentials: ByTenant = Field({}, description="...", examples=['{"sales/*": "sales_token"}'])

name = for_tenant(self.settings.credentials, call.identity) or "acme_token"
token = await call.secret(name)
```
Which project and domain a task has is what Flyte says; nothing proves it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

from flyteagents import Identity
from flyteagents._tenants import TenantPattern, TenantPatterns, fits_tenant

__all__ = ["ByTenant", "TenantPattern", "TenantPatterns", "for_tenant"]


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
