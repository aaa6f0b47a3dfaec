"""Flyte's types in plain Python: what a task declares for its inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """The kinds of `flyteidl.core.LiteralType`; the values are their names there."""

    NONE = "none"
    INTEGER = "integer"
    FLOAT = "float"
    STRING = "string"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    DURATION = "duration"
    BINARY = "binary"
    ERROR = "error"
    STRUCT = "struct"
    ENUM = "enum"
    BLOB = "blob"
    SCHEMA = "schema"
    STRUCTURED_DATASET = "structured_dataset"
    COLLECTION = "collection"
    MAP = "map"
    UNION = "union"


@dataclass(frozen=True)
class Column:
    """A column of a table: its name and its type."""

    name: str
    type: Type


@dataclass(frozen=True)
class Type:
    """A declared type.

    of: the element type of a collection or map; the variants of a union.
    values: the members of an enum.
    columns, format: of a structured dataset or schema; `format` also of a blob.
    multipart: a blob that is a directory.
    tag: the structure tag by which flytekit tells the variants of a union apart.
    """

    kind: Kind
    of: tuple[Type, ...] = ()
    values: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    format: str = ""
    multipart: bool = False
    tag: str = ""

    @property
    def element(self) -> Type:
        """The element type of a collection or map."""
        return self.of[0] if self.of else Type(Kind.NONE)
