"""Values of inputs, from the command line and from task files, by the type of the interface.

One value is a text in the shell and whatever YAML made of it in a file; both become what Python has
for the declared type, or an error that names the input, its type and the value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import yaml
from flyteidl.core import literals_pb2

from flyteagents._cli.task_file import read_span
from flyteagents._cli.type_words import in_words
from flyteagents._errors import InvalidTask
from flyteagents._types import Kind, Type
from flyteagents._values import Blob, Schema, StructuredDataset
from flyteagents._wire.literals import encode_literal, encode_literals


class BadInput(Exception):
    """An input is missing, unknown, or not of its type; the text names it and the type."""


def input_literals(
    interface: Mapping[str, Type],
    defaults: Mapping[str, object],
    given: Sequence[str],
    local: bool = True,
) -> literals_pb2.LiteralMap:
    """The inputs as literals. `given` are texts `name=value`, which win over
    `defaults`. `local`: files are on this machine, so that one which is not there is an error.
    Raises BadInput."""
    values: dict[str, object] = {}
    for name, default in defaults.items():
        if name in interface:
            values[name] = _value(name, interface[name], default, local)
    names: set[str] = set()
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise BadInput(f"{text!r} is not of the form name=value")
        if name in names:
            raise BadInput(f"input {name!r} is given twice; a list is one value, in JSON")
        names.add(name)
        if name not in interface:
            there = ", ".join(f"{n}: {in_words(t)}" for n, t in interface.items()) or "none"
            raise BadInput(f"the task has no input {name!r}; its inputs are {there}")
        values[name] = _value(name, interface[name], value, local)
    for name, declared in interface.items():
        if name not in values and declared.kind is Kind.UNION and _NONE in declared.of:
            values[name] = None
    missing = [f"--input {n}=<{in_words(t)}>" for n, t in interface.items() if n not in values]
    if missing:
        raise BadInput(f"inputs without a value: {' '.join(missing)}")
    return encode_literals(values, interface)


def _value(name: str, declared: Type, value: object, local: bool) -> object:
    try:
        made = typed(value, declared, local)
        # Also done for all inputs at the end, where an error could not name its input any more.
        encode_literal(made, declared)
        return made
    except (ValueError, TypeError, OverflowError, InvalidTask) as error:
        shown = value if isinstance(value, str) else json.dumps(value, default=str)
        raise BadInput(f"input {name} takes {in_words(declared)}: {shown[:80]}: {error}") from None


def typed(value: object, declared: Type, local: bool = True) -> object:
    """`value`, a text or what YAML made of one, as Python has the declared type. Raises
    ValueError."""
    kind = declared.kind
    if kind is Kind.UNION:
        return _variant(value, declared, local)
    if kind in _SCALARS:
        return _SCALARS[kind](value)
    if kind is Kind.ENUM:
        if value not in declared.values:
            raise ValueError(f"not one of {', '.join(declared.values)}")
        return value
    if kind in (Kind.BLOB, Kind.SCHEMA, Kind.STRUCTURED_DATASET):
        return _stored(value, declared, local)
    try:
        parsed = yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError:
        raise ValueError("neither JSON nor YAML") from None
    if kind is Kind.COLLECTION and isinstance(parsed, list):
        return [typed(part, declared.element, local) for part in parsed]
    if kind is Kind.MAP and isinstance(parsed, dict):
        return {str(key): typed(part, declared.element, local) for key, part in parsed.items()}
    if kind is Kind.STRUCT and isinstance(parsed, dict):
        return parsed
    raise ValueError(f"a {kind.value} cannot be made of it; write it as JSON")


def _variant(value: object, declared: Type, local: bool) -> object:
    problems = []
    # None first: with a string beside it, "null" would be taken for a text.
    for variant in sorted(declared.of, key=lambda of: of.kind is not Kind.NONE):
        try:
            return typed(value, variant, local)
        except (ValueError, TypeError) as error:
            problems.append(str(error))
    raise ValueError("; ".join(problems))


def _stored(value: object, declared: Type, local: bool) -> object:
    if isinstance(value, Blob | Schema | StructuredDataset):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError("write a path or a URI")
    uri = value
    if "://" not in value:
        path = Path(value).expanduser().absolute()
        if local and not path.exists():
            raise ValueError("there is no such file")
        uri = str(path)
    form = declared.format or Path(uri).suffix.lstrip(".")
    if declared.kind is Kind.BLOB:
        return Blob(uri, declared.format, declared.multipart)
    if declared.kind is Kind.SCHEMA:
        return Schema(uri, declared.columns)
    return StructuredDataset(uri, declared.columns, form)


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("not a whole number")
    try:
        return int(value)
    except ValueError:
        raise ValueError("not a whole number") from None


def _float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("not a number")
    try:
        return float(value)
    except ValueError:
        raise ValueError("not a number") from None


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text; put it in quotes")
    return value


def _boolean(value: object) -> bool:
    words = {"true": True, "false": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError("neither true nor false")


def _datetime(value: object) -> datetime:
    if isinstance(value, str):
        try:
            # Python 3.10 reads no Z.
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            raise ValueError("not a time such as 2024-02-29T12:00:00Z") from None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=timezone.utc)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
    raise ValueError("not a time such as 2024-02-29T12:00:00Z")


def _duration(value: object) -> timedelta:
    return value if isinstance(value, timedelta) else read_span(value)


def _none(value: object) -> None:
    if value not in (None, "", "null", "none"):
        raise ValueError("not null")


_NONE = Type(Kind.NONE)
_SCALARS: Mapping[Kind, Callable[[object], object]] = {
    Kind.INTEGER: _integer,
    Kind.FLOAT: _float,
    Kind.STRING: _string,
    Kind.BOOLEAN: _boolean,
    Kind.DATETIME: _datetime,
    Kind.DURATION: _duration,
    Kind.NONE: _none,
}
