"""`google.protobuf.Struct` to Python and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf import struct_pb2

from flyteagents._redact import sendable


def to_struct(
    values: Mapping[str, object], spell: Callable[[str], str] = sendable
) -> struct_pb2.Struct:
    """JSON-like values as a Struct; what is not JSON becomes its text, and all texts go through
    `spell`. NaN and infinity pass."""
    struct = struct_pb2.Struct()
    struct.update(_plain(values, spell))
    return struct


def without_nulls(value: Any) -> Any:
    """JSON values without the keys that say null, at any depth. In a list a null has its place."""
    if isinstance(value, Mapping):
        return {name: without_nulls(part) for name, part in value.items() if part is not None}
    return list(map(without_nulls, value)) if isinstance(value, list | tuple) else value


def from_struct(struct: struct_pb2.Struct) -> dict[str, object]:
    """The values of a Struct. Its numbers are all floats, and whole ones are given back as
    integers: 10 in a task's config, or in an input of type dict, is not to become 10.0."""
    return {name: _value(value) for name, value in struct.fields.items()}


def _plain(value: object, spell: Callable[[str], str]) -> Any:
    if isinstance(value, Mapping):
        return {sendable(str(name)): _plain(part, spell) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, spell) for part in value]
    if isinstance(value, int) and abs(value) >= 2**1023:  # more than a Struct's numbers hold
        return math.inf if value > 0 else -math.inf
    return value if value is None or isinstance(value, int | float) else spell(str(value))


def _value(value: struct_pb2.Value) -> object:
    which = value.WhichOneof("kind")
    if which == "struct_value":
        return from_struct(value.struct_value)
    if which == "list_value":
        return [_value(part) for part in value.list_value.values]
    if which == "number_value":
        number = value.number_value
        # Flyte's integers have 64 bits: a larger one could not be passed on as an integer.
        return int(number) if number.is_integer() and abs(number) < 2**63 else number
    return None if which in (None, "null_value") else getattr(value, which)
