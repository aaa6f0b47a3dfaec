"""The Python values of each kind, and what passes for one.

A declared type is not only checked: values that reach a task by attribute access (`t(x=dc.x)`)
come as whatever msgpack or a protobuf Struct made of them, and get their declared type back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, datetime, timedelta, timezone
from typing import Any, TypeVar

from flyteagents._errors import InvalidTask
from flyteagents._types import Kind, Type
from flyteagents._values import Binary, Blob, Schema, StructuredDataset

T = TypeVar("T")
# A value without a declared type is of the first of these that takes it.
_PYTHON: dict[Kind, type | tuple[type, ...]] = {
    Kind.NONE: type(None),
    Kind.BOOLEAN: bool,
    Kind.INTEGER: int,
    Kind.FLOAT: float,
    Kind.STRING: str,
    Kind.ENUM: str,
    Kind.DATETIME: date,
    Kind.DURATION: timedelta,
    Kind.BINARY: (Binary, bytes),
    Kind.BLOB: Blob,
    Kind.SCHEMA: Schema,
    Kind.STRUCTURED_DATASET: StructuredDataset,
    Kind.COLLECTION: (list, tuple),
    Kind.STRUCT: Mapping,
    Kind.MAP: Mapping,
    Kind.ERROR: Mapping,
}


def takes(value: object, declared: Type, exact: bool = True) -> bool:
    """Whether `value` is of the kind as it is; what is inside is not looked at. An int is a float
    unless `exact`."""
    kind = declared.kind
    if isinstance(value, bool):  # an int to Python, and to nobody else
        return kind is Kind.BOOLEAN
    if kind is Kind.FLOAT and not exact:
        return isinstance(value, int | float)
    if kind is Kind.ENUM and declared.values and value not in declared.values:
        return False
    return isinstance(value, _PYTHON[kind])


def type_of(value: object) -> Type:
    """The type that a value suggests. Raises InvalidTask where Flyte has none for it."""
    for kind in _PYTHON:
        if takes(value, Type(kind)):
            return Type(kind, multipart=isinstance(value, Blob) and value.multipart)
    raise InvalidTask(f"Flyte has no type for a value of type {type(value).__name__}")


def fit(value: Any, declared: Type, exact: bool = False) -> object:
    """An input as the declared type has it; raises InvalidTask if it cannot be. None passes for
    any type, as it does in Flyte. `exact` is for `choose`."""
    kind = declared.kind
    if kind is Kind.UNION:
        return choose(value, declared, exact, fit)[1]
    if not takes(value, declared):
        converted = None if exact else _convert(value, kind)
        if converted is None and (exact or value is not None):
            raise misfit(value, declared)
        return converted
    if kind is Kind.COLLECTION:
        return [fit(item, declared.element, exact) for item in value]
    if kind is Kind.MAP:
        return {key: fit(item, declared.element, exact) for key, item in value.items()}
    return value


def choose(
    value: object, declared: Type, exact: bool, attempt: Callable[[Any, Type, bool], T]
) -> tuple[Type, T]:
    """The variant of a union that takes the value, and what `attempt` made of it.

    With `int | float` both take 1: the variant that takes it as it is (`exact`) goes first.
    """
    for strictly in (True,) if exact else (True, False):
        for variant in declared.of:
            with suppress(InvalidTask):
                return variant, attempt(value, variant, strictly)
    raise misfit(value, declared)


def misfit(value: object, declared: Type, reason: object = "") -> InvalidTask:
    text = f"a value of type {type(value).__name__} is not {_words(declared)}"
    return InvalidTask(f"{text}: {reason}" if reason else text)


def each(
    what: str, values: Mapping[str, Any], declared: Mapping[str, Type], convert: Callable[..., T]
) -> dict[str, T]:
    """The values converted; an InvalidTask says which of them it is about."""
    converted, name = {}, ""
    try:
        for name, value in values.items():
            converted[name] = convert(value, declared.get(name))
    except InvalidTask as error:
        stated = f", declared {_words(declared[name])}" if name in declared else ""
        raise InvalidTask(f"{what} {name!r}{stated}: {error.message}") from None
    return converted


def _words(declared: Type) -> str:
    of = declared.values or [_words(part) for part in declared.of]
    return declared.kind.value + (" of " + ", ".join(of) if of else "")


def _convert(value: object, kind: Kind) -> object:
    """What flytekit and FlytePropeller also take for one another; None where they do not."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    with suppress(ValueError, OverflowError):
        match kind, value:
            case (Kind.BINARY | Kind.ERROR, _) | (Kind.STRUCT, list()):
                return value
            case Kind.INTEGER, float(whole) if whole.is_integer():
                return int(whole)
            case Kind.FLOAT, int(whole) if number:
                return float(whole)
            case Kind.DURATION, int(seconds) | float(seconds) if number:
                return timedelta(seconds=seconds)
            case Kind.DATETIME, str(text):
                # Python 3.10's `fromisoformat` does not know "Z".
                moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
                aware = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
                return aware.astimezone(timezone.utc)
            case Kind.SCHEMA | Kind.STRUCTURED_DATASET, Schema() | StructuredDataset():
                return value
            # flytekit's file and table types, as fields of a dataclass
            case Kind.BLOB | Kind.SCHEMA | Kind.STRUCTURED_DATASET, dict(fields):
                uri = fields.get("path") or fields.get("uri") or fields.get("remote_path")
                if isinstance(uri, str) and kind is Kind.BLOB:
                    return Blob(uri)
                if isinstance(uri, str):
                    return StructuredDataset(uri, format=str(fields.get("file_format") or ""))
    return None
