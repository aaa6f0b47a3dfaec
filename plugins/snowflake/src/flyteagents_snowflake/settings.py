"""The plugin's settings: environment variables `FLYTEAGENTS_SNOWFLAKE_*`."""

from __future__ import annotations

import warnings
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from flyteagents import Settings
from flyteagents.kit.credentials import ByTenant
from flyteagents.kit.settings import BaseUrl
from flyteagents_snowflake.names import Identifier

SecretName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")]


# A method of pydantic's first version has this name, and hiding it is warned of.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)

    class _WithSchema(Settings):
        schema: Identifier = Field(  # type: ignore[assignment] # the method
            "PUBLIC", description="Schema of tasks that name none.", examples=["PUBLIC"]
        )


class SnowflakeSettings(_WithSchema):
    """Settings of the Snowflake agent."""

    account: str | None = Field(
        None, description="Account of tasks that name none.", examples=["myorg-myaccount"]
    )
    user: Identifier | None = Field(
        None, description="User of tasks that name none.", examples=["FLYTE"]
    )
    role: Identifier | None = Field(
        None,
        description="Role of tasks that name none; the user's default role if unset.",
        examples=["ANALYST"],
    )
    warehouse: Identifier | None = Field(
        None,
        description="Warehouse of tasks that name none; the user's default if unset.",
        examples=["COMPUTE_WH"],
    )
    database: Identifier | None = Field(
        None, description="Database of tasks that name none.", examples=["SALES"]
    )
    url: BaseUrl | None = Field(
        None,
        description="One address for all accounts: a private link, a proxy, a test server. "
        "Each account's own if unset.",
        examples=["https://snowflake.internal.example"],
    )
    credentials: ByTenant = Field(
        {},
        description="Other credentials for some Flyte projects and domains: a JSON object of "
        "project/domain patterns, each with the name of a secret. The first that fits counts.",
        examples=['{"sales/*": "sales_key"}'],
    )
    private_key_secret: SecretName = Field(
        "snowflake_private_key",
        description="Name of the secret with the private key. Its passphrase is in the secret of "
        "this name with `_passphrase` behind it.",
    )
    oauth_secret: SecretName = Field(
        "snowflake_oauth",
        description="Name of the secret with an OAuth client: a JSON object with client_id and "
        "client_secret, and token_url, scope or refresh_token where they are needed.",
    )
    token_secret: SecretName = Field(
        "snowflake_token",
        description="Name of the secret with a programmatic access token.",
    )
    bindings: Literal["client", "server"] = Field(
        "client",
        description="How inputs get into statements: written into the text, as flytekit's "
        "connector does, or sent beside it.",
    )
    find_by_tag: bool = Field(
        False,
        description="Look a statement that may have been sent before up in the query history, by "
        "its tag, before it is sent again.",
    )
    history: bool = Field(
        False,
        description="Add bytes, credits, queue and compile time and the warehouse of a finished "
        "query to its custom info, by one look into the query history. It may wake a warehouse.",
    )
