"""The SQL API's answers: the parts that are read.

https://docs.snowflake.com/en/developer-guide/sql-api/reference
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.alias_generators import to_camel

from flyteagents import Reply, Unavailable
from flyteagents.kit.answers import AnswerPart
from flyteagents_snowflake.names import QueryId

A = TypeVar("A", bound="Answer")
DONE = "090001"
TOO_LARGE = "391908"
"""The statement succeeded, and its result is more than the SQL API gives out."""
RUNS = 202
"""The HTTP status of a statement that runs, or waits for its turn."""
RUNNING = ("333333", "333334")


class _Part(AnswerPart):
    model_config = ConfigDict(alias_generator=to_camel)


class Column(_Part):
    name: str = ""


class Partition(_Part):
    uncompressed_size: int = 0


class ResultShape(_Part):
    num_rows: int = 0
    row_type: tuple[Column, ...] = ()
    partition_info: tuple[Partition, ...] = ()


class Answer(BaseModel):
    """Of a statement that runs, has succeeded, has failed or was cancelled.

    handles: of the statements of a request that has several. created: milliseconds since 1970.

    The first part of a result comes with it, which may be 10 MB and more. Nobody reads it here, so
    it has no field, and no validator of the whole, which would make Python's objects of it all.
    """

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)

    status: int = Field(0, exclude=True)
    code: str = ""
    sql_state: str = ""
    message: str = ""
    handle: QueryId | None = Field(None, alias="statementHandle")
    handles: tuple[QueryId, ...] = Field((), alias="statementHandles")
    created: float | None = Field(None, alias="createdOn")
    shape: ResultShape | None = Field(None, alias="resultSetMetaData")
    stats: Mapping[str, Any] = {}

    @field_validator("*", mode="before")
    @classmethod
    def _without_nulls(cls, value: Any, of: ValidationInfo) -> Any:
        return cls.model_fields[str(of.field_name)].default if value is None else value

    @property
    def running(self) -> bool:
        return self.status == RUNS or self.code in RUNNING

    @property
    def succeeded(self) -> bool:
        return self.status == 200 and self.code in (DONE, TOO_LARGE)


class Rows(Answer):
    """Of a short statement whose result is read, as far as its first part has it."""

    data: tuple[tuple[str | None, ...], ...] = ()

    @property
    def rows(self) -> list[dict[str, str | None]]:
        """By the columns' names in lower case."""
        names = [column.name.lower() for column in self.shape.row_type] if self.shape else []
        return [dict(zip(names, row, strict=False)) for row in self.data]


def answer(reply: Reply, model: type[A]) -> A:
    """Raises Unavailable for what Snowflake did not write."""
    found = reply.into(model)
    # A failure must have a statementHandle only (QueryFailureStatus in Snowflake's sqlapi.yaml).
    if not found.code and found.handle is None:
        # A proxy's page, say: it tells nothing of the statement, so it must not end the task.
        raise Unavailable(f"Snowflake's reply ({reply.status}) is not an answer of the SQL API")
    return found.model_copy(update={"status": reply.status})
