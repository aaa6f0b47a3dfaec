"""The plugin's settings: environment variables `FLYTEAGENTS_QUARRY_*`."""

from __future__ import annotations

from pydantic import Field

from flyteagents import Settings
from flyteagents.kit.credentials import ByTenant
from flyteagents.kit.settings import BaseUrl


class QuarrySettings(Settings):
    """Settings of the quarry agent."""

    url: BaseUrl = Field("https://quarry.example", description="Address of quarry's API.")
    client_id: str = Field("flyte", description="The OAuth client that this service is.")
    credentials: ByTenant = Field(
        {},
        description="Other credentials for some Flyte projects and domains: a JSON object of "
        "project/domain patterns, each with the name of a secret. The first that fits counts.",
        examples=['{"sales/*": "sales_quarry_secret"}'],
    )
