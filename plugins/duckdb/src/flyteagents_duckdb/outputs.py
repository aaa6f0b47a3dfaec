"""A job's result as the outputs that the task declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flyteagents import Blob, Column, Kind, Schema, StructuredDataset, Type
from flyteagents.kit.outputs import table_output
from flyteagents_duckdb.types import unpack_type
from flyteagents_duckdb_job.values import unpack

TABLES = (Kind.STRUCTURED_DATASET, Kind.SCHEMA, Kind.BLOB)
"""What a result as a file may be declared as."""

_SCHEMA_KINDS = (
    Kind.INTEGER,
    Kind.FLOAT,
    Kind.STRING,
    Kind.BOOLEAN,
    Kind.DATETIME,
    Kind.DURATION,
)
"""What a column of a schema can be: flyteidl's SchemaType has no others."""


def result_table(declared: Mapping[str, Type]) -> tuple[str, Type] | None:
    """The declared output that the result as a table becomes. Raises InvalidTask for two."""
    return table_output(declared, TABLES)


def outputs_of(ended: Mapping[str, Any], declared: Mapping[str, Type]) -> dict[str, object]:
    """The outputs of a job that succeeded."""
    outputs = {name: unpack(value) for name, value in ended.get("scalars", {}).items()}
    table = result_table(declared)
    if table is not None and "uri" in ended:
        name, kind = table
        outputs[name] = _table(ended, kind)
    return outputs


def _table(ended: Mapping[str, Any], declared: Type) -> Blob | Schema | StructuredDataset:
    folder = ended["uri"]
    if declared.kind is Kind.BLOB:
        uri = folder if declared.multipart else ended["file"]
        return Blob(uri, format="parquet", multipart=declared.multipart)

    columns = tuple(Column(each["name"], unpack_type(each["type"])) for each in ended["columns"])
    if declared.kind is Kind.SCHEMA:
        return Schema(folder, tuple(each for each in columns if each.type.kind in _SCHEMA_KINDS))
    return StructuredDataset(folder, columns, format="parquet")
