"""Types as task files and messages write them: `integer`, `[string]`, `integer?`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flyteagents._cli.screen import did_you_mean
from flyteagents._types import Column, Kind, Type

_WORDS = {
    "none": Type(Kind.NONE),
    "integer": Type(Kind.INTEGER),
    "int": Type(Kind.INTEGER),
    "float": Type(Kind.FLOAT),
    "string": Type(Kind.STRING),
    "str": Type(Kind.STRING),
    "boolean": Type(Kind.BOOLEAN),
    "bool": Type(Kind.BOOLEAN),
    "datetime": Type(Kind.DATETIME),
    "duration": Type(Kind.DURATION),
    "struct": Type(Kind.STRUCT),
    "file": Type(Kind.BLOB),
    "blob": Type(Kind.BLOB),
    "directory": Type(Kind.BLOB, multipart=True),
    "schema": Type(Kind.SCHEMA),
    "structured_dataset": Type(Kind.STRUCTURED_DATASET),
}
_TABLES = {"structured_dataset": Kind.STRUCTURED_DATASET, "schema": Kind.SCHEMA}
_FORMS = (
    f"one of {', '.join(sorted(_WORDS))}; or [type], {{string: type}}, type?, "
    "{columns: {name: type}, format: parquet}, {enum: [a, b]}, {file: csv}"
)


def read_type(written: Any) -> Type:
    """The type that a task file's YAML says. Raises ValueError that tells the forms there are."""
    if isinstance(written, str):
        word = written.strip()
        if word.endswith("?"):
            return Type(Kind.UNION, (read_type(word[:-1]), Type(Kind.NONE)))
        if word in _WORDS:
            return _WORDS[word]
        near = did_you_mean(word, _WORDS)
        raise ValueError(f"{written!r} is no type{near or f'; a type is {_FORMS}'}")
    if isinstance(written, list) and len(written) == 1:
        return Type(Kind.COLLECTION, (read_type(written[0]),))
    if isinstance(written, Mapping) and len(written) > 0:
        return _read_mapping(written)
    raise ValueError(f"{written!r} is no type; a type is {_FORMS}")


def _read_mapping(written: Mapping[Any, Any]) -> Type:
    keys = set(written)
    if keys in ({"string"}, {"str"}):
        return Type(Kind.MAP, (read_type(next(iter(written.values()))),))
    if keys == {"enum"} and isinstance(written["enum"], list):
        return Type(Kind.ENUM, values=tuple(map(str, written["enum"])))
    if keys == {"file"} and isinstance(written["file"], str):
        return Type(Kind.BLOB, format=written["file"])
    if keys <= {"columns", "format", "type"} and keys & {"columns", "format"}:
        kind = _TABLES.get(str(written.get("type", "structured_dataset")))
        columns = written.get("columns") or {}
        if kind is not None and isinstance(columns, Mapping):
            return Type(
                kind,
                columns=tuple(Column(str(name), read_type(of)) for name, of in columns.items()),
                format=str(written.get("format") or ""),
            )
    raise ValueError(f"{dict(written)!r} is no type; a type is {_FORMS}")


def in_words(declared: Type) -> str:
    """A type in a line, as a task file would write it."""
    kind = declared.kind
    if kind is Kind.COLLECTION:
        return f"[{in_words(declared.element)}]"
    if kind is Kind.MAP:
        return f"{{string: {in_words(declared.element)}}}"
    if kind is Kind.UNION:
        others = [of for of in declared.of if of.kind is not Kind.NONE]
        if len(others) == 1 and len(declared.of) == 2:
            return f"{in_words(others[0])}?"
        return " or ".join(map(in_words, declared.of))
    if kind is Kind.ENUM:
        return f"enum of {', '.join(declared.values)}"
    if kind is Kind.BLOB:
        word = "directory" if declared.multipart else "file"
        return f"{word} ({declared.format})" if declared.format else word
    details = [f"{c.name}: {in_words(c.type)}" for c in declared.columns]
    if declared.format:
        details.append(f"format {declared.format}")
    return f"{kind.value} ({', '.join(details)})" if details else kind.value
