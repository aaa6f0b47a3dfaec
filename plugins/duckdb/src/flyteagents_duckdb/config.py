"""The task's config: its `custom`, or its `config`, in which all values are texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from flyteagents_duckdb.settings import Size


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


def _object(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"it is neither an object nor JSON of one: {error}") from None


def _names(value: object) -> object:
    if not isinstance(value, str):
        return value
    return [name.strip() for name in value.split(",") if name.strip()]


Text = Annotated[str, StringConstraints(min_length=1)]


class DuckDBConfig(BaseModel):
    """What a task can say besides its SQL."""

    model_config = ConfigDict(populate_by_name=True)

    threads: Annotated[int, BeforeValidator(_number), Field(gt=0)] | None = None
    memory: Size | None = Field(None, validation_alias=AliasChoices("memory", "memory_limit"))

    csv_null: str | None = None
    csv_types: Annotated[Mapping[str, Text], BeforeValidator(_object)] = Field({})
    csv_encoding: Text | None = None
    csv_delimiter: Text | None = None
    partitioned: Annotated[tuple[Text, ...], BeforeValidator(_names)] = ()

    @property
    def matters(self) -> dict[str, object]:
        """What changes a result: threads and memory do not. Keys that are not set are left out,
        so that a job of an older release is still the same work."""
        keys = ("csv_types", "csv_encoding", "csv_delimiter", "partitioned")
        given = {key: getattr(self, key) for key in keys}
        return {"csv_null": self.csv_null} | {key: value for key, value in given.items() if value}


def csv_options(config: DuckDBConfig) -> dict[str, Any]:
    """What the config says of CSV files, as a job's process reads it."""
    return {
        "null": config.csv_null,
        "types": dict(config.csv_types),
        "encoding": config.csv_encoding,
        "delimiter": config.csv_delimiter,
    }
