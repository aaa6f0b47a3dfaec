"""The SQL API's answers: the parts that are read.

https://docs.snowflake.com/en/developer-guide/sql-api/reference
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from flyteagents import Reply, Unavailable
from flyteagents.kit.answers import AnswerPart
from flyteagents_snowflake.names import QueryId

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


class Answer(_Part):
    """Of a statement that runs, has succeeded, has failed or was cancelled.

    handles: of the statements of a request that has several. created: milliseconds since 1970.
    """

    status: int = Field(0, exclude=True)
    code: str = ""
    sql_state: str = ""
    message: str = ""
    handle: QueryId | None = Field(None, alias="statementHandle")
    handles: tuple[QueryId, ...] = Field((), alias="statementHandles")
    created: float | None = Field(None, alias="createdOn")
    shape: ResultShape | None = Field(None, alias="resultSetMetaData")
    data: tuple[tuple[str | None, ...], ...] = ()
    stats: Mapping[str, Any] = Field(default_factory=dict)

    @property
    def running(self) -> bool:
        return self.status == RUNS or self.code in RUNNING

    @property
    def succeeded(self) -> bool:
        return self.status == 200 and self.code in (DONE, TOO_LARGE)

    @property
    def rows(self) -> list[dict[str, str | None]]:
        """The result's first partition, by the columns' names in lower case."""
        names = [column.name.lower() for column in self.shape.row_type] if self.shape else []
        return [dict(zip(names, row, strict=False)) for row in self.data]


def answer(reply: Reply) -> Answer:
    """Raises Unavailable for what Snowflake did not write."""
    found = reply.json()
    if not isinstance(found, dict) or not found.get("code"):
        # A proxy's page, say: it tells nothing of the statement, so it must not end the task.
        raise Unavailable(f"Snowflake's reply ({reply.status}) is not an answer of the SQL API")
    try:
        return Answer.model_validate({**found, "status": reply.status})
    except ValidationError as error:
        fields = ", ".join(str(one["loc"][0]) for one in error.errors()[:5] if one["loc"])
        raise Unavailable(f"Snowflake's reply ({reply.status}) has a strange {fields}") from None
