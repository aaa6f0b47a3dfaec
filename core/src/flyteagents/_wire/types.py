"""`flyteidl.core.LiteralType` to `Type` and back, and declared types as a short text."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from flyteidl.core import interface_pb2, types_pb2
from google.protobuf.message import DecodeError

from flyteagents._errors import InvalidTask
from flyteagents._types import Column, Kind, Type
from flyteagents._wire.kinds import each

LIMIT = 64 * 1024
"""Bytes of types in a text. It can blow up a thousandfold, and it comes over the wire."""
REMEMBERED = 8 * 1024
"""Bytes of types whose text is remembered."""


def decode_type(message: types_pb2.LiteralType) -> Type:
    """The type that `message` describes. Raises InvalidTask for one that Flyte 1.16 did not know.

    The JSON schema and annotations that SDKs attach are left out.
    """
    which, tag = message.WhichOneof("type"), message.structure.tag
    if which == "simple":
        return Type(_kind(_SIMPLE, message.simple), tag=tag)
    if which not in _KINDS:
        raise InvalidTask("its type is missing, or newer than this version of flyteagents")
    one = which in ("collection_type", "map_value_type")
    of = [getattr(message, which)] if one else message.union_type.variants
    # Only one of these fields is set; the others are empty.
    blob, table = message.blob, message.structured_dataset_type
    columns = [Column(c.name, Type(_kind(_IN_SCHEMA, c.type))) for c in message.schema.columns]
    columns += [Column(c.name, decode_type(c.literal_type)) for c in table.columns]
    return Type(
        _KINDS[which],
        of=tuple(map(decode_type, of)),
        values=tuple(message.enum_type.values),
        columns=tuple(columns),
        format=blob.format or table.format,
        multipart=blob.dimensionality == types_pb2.BlobType.MULTIPART,
        tag=tag,
    )


def decode_variables(message: interface_pb2.VariableMap) -> dict[str, Type]:
    """Name to declared type, of the inputs or outputs of a task's interface."""
    return each(
        "interface variable", message.variables, {}, lambda variable, _: decode_type(variable.type)
    )


def encode_type(declared: Type) -> types_pb2.LiteralType:
    """The message for `declared`; decodes to an equal `Type`."""
    field, write = _FIELDS.get(declared.kind, _AS_SIMPLE)
    structure = {"tag": declared.tag} if declared.tag else None
    return types_pb2.LiteralType(structure=structure, **{field: write(declared)})


def dump_types(types: Mapping[str, Type]) -> str:
    """A text for `load_types`, to ride in the envelope: GetTask does not say which outputs the
    task declares. None of its characters needs an escape in JSON; no types are no text.

    Look at its length: a table has columns without end, and over LIMIT `load_types` refuses.
    """
    try:
        return _dump(frozenset(types.items())) if types else ""
    except _Long as long:
        return long.text


class _Long(Exception):
    """Types that are not remembered: `lru_cache` keeps no exception."""

    def __init__(self, text: str) -> None:
        self.text = text


# Tasks are few and calls are many: the compressor alone would take a fifth of a CreateTask.
@lru_cache(64)
def _dump(types: frozenset[tuple[str, Type]]) -> str:
    variables = {name: interface_pb2.Variable(type=encode_type(of)) for name, of in types}
    message = interface_pb2.VariableMap(variables=variables)
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)  # no header, no checksum
    plain = message.SerializeToString(deterministic=True)
    text = base64.b85encode(deflate.compress(plain) + deflate.flush()).decode()
    if len(plain) > REMEMBERED:
        raise _Long(text)
    return text


@lru_cache(64)
def load_types(text: str) -> Mapping[str, Type]:
    """The types that `dump_types` was given. Raises ValueError for any other text."""
    inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    try:
        # Blocks with nothing in them make a long text of few bytes, and it would be remembered.
        plain = inflate.decompress(base64.b85decode(text[: 2 * LIMIT]), LIMIT + 1)
        if len(plain) > LIMIT or len(text) > 2 * LIMIT:
            raise ValueError(f"more than {LIMIT} bytes")
        if text and (not inflate.eof or inflate.unused_data):
            raise ValueError("cut off, or followed by something")
        message = interface_pb2.VariableMap.FromString(plain)
        # All who ask share the cached one, so it must not be written to.
        return MappingProxyType(decode_variables(message))
    except (ValueError, zlib.error, DecodeError, InvalidTask) as error:
        raise ValueError(f"not a text of declared types: {error!r}"[:200]) from None


def _schema(declared: Type) -> dict[str, Any]:
    columns = [{"name": c.name, "type": c.type.kind.name} for c in declared.columns]
    for column in declared.columns:
        if column.type.kind not in _IN_SCHEMA.values():
            text = f"column {column.name!r} is a {column.type.kind.value}, which a schema cannot"
            raise InvalidTask(f"{text} hold; use a structured dataset")
    return {"columns": columns}


def _dataset(declared: Type) -> dict[str, Any]:
    columns = [{"name": c.name, "literal_type": encode_type(c.type)} for c in declared.columns]
    return {"columns": columns, "format": declared.format}


# The field of a LiteralType that holds a kind, and what it holds.
_FIELDS: dict[Kind, tuple[str, Callable[[Type], object]]] = {
    Kind.COLLECTION: ("collection_type", lambda of: encode_type(of.element)),
    Kind.MAP: ("map_value_type", lambda of: encode_type(of.element)),
    Kind.UNION: ("union_type", lambda of: {"variants": map(encode_type, of.of)}),
    Kind.ENUM: ("enum_type", lambda of: {"values": of.values}),
    Kind.BLOB: ("blob", lambda of: {"format": of.format, "dimensionality": int(of.multipart)}),
    Kind.SCHEMA: ("schema", _schema),
    Kind.STRUCTURED_DATASET: ("structured_dataset_type", _dataset),
}
_AS_SIMPLE: tuple[str, Callable[[Type], object]] = ("simple", lambda of: of.kind.name)
_KINDS: dict[str | None, Kind] = {field: kind for kind, (field, _) in _FIELDS.items()}


def _kind(kinds: Mapping[int, Kind], number: int) -> Kind:
    if number not in kinds:
        raise InvalidTask(f"its type has number {number}, which this version does not know")
    return kinds[number]


def _kinds(numbers: Any) -> dict[int, Kind]:
    """Kinds by their numbers in an enum of protobuf, which gives them the same names."""
    return {number: Kind[name] for name, number in numbers.items() if name in Kind.__members__}


_SIMPLE = _kinds(types_pb2.SimpleType)
_IN_SCHEMA = _kinds(types_pb2.SchemaType.SchemaColumn.SchemaColumnType)
