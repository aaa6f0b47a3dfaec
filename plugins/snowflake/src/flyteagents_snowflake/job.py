"""What names a statement to Snowflake, and what flytekit's and flyte-sdk's connectors wrote for
theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, StringConstraints, model_validator

from flyteagents import InvalidTask, Job
from flyteagents_snowflake.config import Login
from flyteagents_snowflake.names import Identifier, QueryId
from flyteagents_snowflake.places import Account

HostPort = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}(:\d{1,5})?$")
]
AccountName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,252}$")]
Sdk = Literal["flytekit", "flyte-sdk"]


class SnowflakeJob(Job):
    """The names are those of the other connectors, whose jobs are taken over as they are.

    host: where it is not the account's own. login: how the task wants to log in.
    sdk: in whose form the result's URI is.
    starts: line and column where each of several statements begins; none for one statement.
    result: which of them has the task's result. count: how many there are, our own among them.
    limited: the statement's limit of time is that of the Flyte task.
    has_output: only another connector's job has it.
    """

    query_id: QueryId
    account: AccountName
    user: Identifier
    database: Identifier | None = None
    schema_name: Identifier | None = Field(
        None, validation_alias=AliasChoices("schema", "schema_name")
    )
    warehouse: Identifier | None = None
    host: HostPort | None = None
    login: Login | None = None
    sdk: Sdk = "flytekit"
    starts: tuple[tuple[int, int], ...] = Field((), max_length=24)
    result: int = Field(0, ge=0)
    count: int = 0
    several: bool = False
    limited: bool = False
    has_output: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_others(cls, values: Any) -> Any:
        """flyte-sdk's connector keeps its connection_kwargs, credentials and all; of them only
        where the account is matters to a job that runs."""
        if not isinstance(values, Mapping) or "connection_kwargs" not in values:
            return values
        kept = {name: value for name, value in values.items() if name != "connection_kwargs"}
        given = values["connection_kwargs"]
        if isinstance(given, Mapping) and values.get("account"):
            try:
                kept["account"], kept["host"] = located(str(values["account"]), given)
            except InvalidTask as error:
                # To pydantic only a ValueError is a refusal.
                raise ValueError(error.message) from None
        return {**kept, "sdk": "flyte-sdk"}

    @property
    def foreign(self) -> bool:
        """Whether a driver has started it, and not the SQL API."""
        return self.has_output is not None

    def __str__(self) -> str:
        return f"{self.query_id} of {self.account}"


def located(name: str, given: Mapping[str, Any]) -> tuple[str, str | None]:
    """The account that the driver's parameters lead to, and the host, None for the account's own.
    Raises InvalidTask."""
    host, port, region = given.get("host"), given.get("port"), given.get("region")
    # In the account, and not in the host alone: readers of the result have nothing else.
    account = Account(name).within("" if host else str(region or ""))
    # A port that went through a protobuf Struct is 443.0.
    own = "" if not port or int(port) == 443 else f":{int(port)}"
    return account.name, f"{host or account.host()}{own}" if host or own else None
