"""Flyte's types in the JSON of a job's files, and as DuckDB's types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flyteagents import Kind, Type

_SQL = {
    Kind.INTEGER: "BIGINT",
    Kind.FLOAT: "DOUBLE",
    Kind.STRING: "VARCHAR",
    Kind.ENUM: "VARCHAR",
    Kind.BOOLEAN: "BOOLEAN",
    Kind.DATETIME: "TIMESTAMP WITH TIME ZONE",
    Kind.DURATION: "INTERVAL",
    Kind.BINARY: "BLOB",
}
"""A struct is not among them: its fields are not declared, so it is JSON in a text."""


def pack_type(declared: Type) -> dict[str, Any]:
    """JSON for a type; what only Flyte needs of it is left out."""
    packed: dict[str, Any] = {"kind": declared.kind.value}
    if declared.of:
        packed["of"] = [pack_type(part) for part in declared.of]
    return packed


def unpack_type(packed: Mapping[str, Any]) -> Type:
    """The type that was packed."""
    return Type(Kind(packed["kind"]), tuple(map(unpack_type, packed.get("of", []))))


def sql_type(declared: Type | None) -> str:
    """The DuckDB type that a value of a declared type is bound with; "" where DuckDB decides."""
    if declared is None:
        return ""
    if declared.kind is Kind.COLLECTION:
        element = sql_type(declared.element)
        return f"{element}[]" if element else ""
    if declared.kind is Kind.MAP:
        element = sql_type(declared.element)
        return f"MAP(VARCHAR, {element})" if element else ""
    if declared.kind is Kind.UNION:
        some = {sql_type(part) for part in declared.of if part.kind is not Kind.NONE}
        return some.pop() if len(some) == 1 else ""
    return _SQL.get(declared.kind, "")


def column_types(declared: Type | None) -> dict[str, str]:
    """The DuckDB types of the columns that an input is declared with, for files without types."""
    columns = () if declared is None else declared.columns
    typed = {column.name: sql_type(column.type) for column in columns}
    # A time in a text seldom has a zone: where it has none, it is UTC, as all times of Flyte's.
    typed = {name: sql.replace(" WITH TIME ZONE", "") for name, sql in typed.items()}
    return {name: sql for name, sql in typed.items() if sql and sql != "BLOB"}
