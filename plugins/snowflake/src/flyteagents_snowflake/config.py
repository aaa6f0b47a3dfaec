"""The task's config, as flytekit's SnowflakeTask (in `config`), flyte-sdk's Snowflake (in `custom`)
and the older Go plugin write it.

flyte-sdk's `connection_kwargs` are parameters of Snowflake's Python driver. Those that mean
something to the SQL API are honoured; a credential among them, or a way to log in that the SQL API
does not have, is refused in words; what only tunes the driver is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import AliasChoices, ConfigDict, Field, field_validator, model_validator

from flyteagents.kit.configs import ConfigPart
from flyteagents_snowflake.names import Host, Identifier

Login = Literal["key", "oauth", "token"]

_INSTEAD = (
    "use a key pair (secret snowflake_private_key), an OAuth client (secret snowflake_oauth) or a "
    "programmatic access token (secret snowflake_token)"
)
_LOGINS: Mapping[str, Login | None] = {
    "": None,
    "snowflake": None,
    "snowflake_jwt": "key",
    "oauth": "oauth",
    "oauth_client_credentials": "oauth",
    "programmatic_access_token": "token",
}
_REFUSED = {
    "password": f"the SQL API takes no password; {_INSTEAD}",
    "passcode": f"the SQL API takes no passcode; {_INSTEAD}",
    "token": "a token does not belong into a task; put it into the secret snowflake_token",
    "private_key": "a key does not belong into a task; put it into the secret "
    "snowflake_private_key",
    "private_key_file": "a task may not name files of this service; put the key into the secret "
    "snowflake_private_key",
    "token_file_path": "a task may not name files of this service; put the token into the secret "
    "snowflake_token",
    "oauth_client_secret": "a secret does not belong into a task; put the OAuth client into the "
    "secret snowflake_oauth",
    "workload_identity_provider": f"the SQL API takes no workload identity; {_INSTEAD}",
}


class ConnectionKwargs(ConfigPart):
    """What of the driver's parameters means something here; the others are kept to be told of.
    Raises ValueError for those among them that would change whose or which work it is."""

    model_config = ConfigDict(extra="allow")

    role: Identifier | None = None
    authenticator: str | None = None
    host: Host | None = None
    port: int | None = Field(None, ge=1, le=65535)
    region: str | None = None
    timezone: str | None = None
    autocommit: bool = True
    session_parameters: Mapping[str, bool | int | float | str] = {}

    @model_validator(mode="before")
    @classmethod
    def _refused(cls, values: Any) -> Any:
        # Before the fields are read: they are none, and would be passed over in silence.
        for name, why in _REFUSED.items():
            if isinstance(values, Mapping) and values.get(name):
                raise ValueError(f"{name}: {why}")
        return values

    @field_validator("authenticator")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if (value or "").lower() not in _LOGINS:
            raise ValueError(f"{value!r} is not for a service, or not for the SQL API; {_INSTEAD}")
        return value

    @model_validator(mode="after")
    def _committed(self) -> ConnectionKwargs:
        # The driver's own parameter, and the session's of the same name.
        session = {name.upper(): value for name, value in self.session_parameters.items()}
        if not self.autocommit or not _is_on(session.get("AUTOCOMMIT", True)):
            raise ValueError(
                "autocommit is off, and nothing would commit the work; write BEGIN; ...; COMMIT"
            )
        return self

    @property
    def login(self) -> Login | None:
        return _LOGINS[(self.authenticator or "").lower()]


def _is_on(value: bool | int | float | str) -> bool:
    return str(value).lower() not in ("false", "0", "0.0", "off", "no")


class SnowflakeConfig(ConfigPart):
    """Keys that are not known are passed over: flytekit wrote `table` until 1.13."""

    model_config = ConfigDict(populate_by_name=True)

    account: str | None = None
    user: Identifier | None = None
    database: Identifier | None = None
    schema_name: Identifier | None = Field(
        None, validation_alias=AliasChoices("schema", "schema_name"), serialization_alias="schema"
    )
    warehouse: Identifier | None = None
    role: Identifier | None = None
    batch: bool = False
    bindings: Literal["client", "server"] | None = None
    connection_kwargs: ConnectionKwargs = ConnectionKwargs()

    def work(self) -> dict[str, Any]:
        """What of it says what the job does."""
        # No warehouse: what a statement runs on does not change what it does.
        parameters = {
            name.upper(): value for name, value in self.connection_kwargs.session_parameters.items()
        }
        # A tag says whose work it is.
        parameters.pop("QUERY_TAG", None)
        return {
            "account": self.account,
            "database": self.database,
            "schema": self.schema_name,
            "role": self.role or self.connection_kwargs.role,
            "batch": self.batch,
            "parameters": parameters,
            "timezone": self.connection_kwargs.timezone,
        }
