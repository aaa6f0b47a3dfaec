"""Flyte literals to Python values and back, without an SDK."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

import msgpack
from flyteidl.core import literals_pb2, types_pb2

from flyteagents._errors import InvalidTask
from flyteagents._types import Kind, Type
from flyteagents._values import Binary, Blob, Schema, StructuredDataset
from flyteagents._wire.kinds import choose, each, fit, misfit, takes, type_of
from flyteagents._wire.structs import from_struct
from flyteagents._wire.types import decode_type, encode_type


def decode_literals(
    literals: literals_pb2.LiteralMap, interface: Mapping[str, Type], what: str = "input"
) -> dict[str, object]:
    """The inputs of a task by name. Raises InvalidTask that names the input it is about."""
    return each(what, literals.literals, interface, decode_literal)


def decode_literal(literal: literals_pb2.Literal, declared: Type | None = None) -> object:
    """The Python value of a literal.

    Datetimes are aware, in UTC, and cut to microseconds; a union is the value inside; an error is
    `{"message": ..., "failed_node_id": ...}`. A Struct is a dict whose numbers are all floats, as
    they are on the wire, except where the declared type has integers (a map of integers).
    None passes for any type, as it does in Flyte.
    """
    value = _decode(literal)
    return value if declared is None else fit(value, declared)


def encode_literals(
    outputs: Mapping[str, object], declared: Mapping[str, Type] | None
) -> literals_pb2.LiteralMap:
    """The declared ones of `outputs`, since Flyte has no use for the others; all of them, by the
    types that they suggest, where nobody knows what is declared. Raises InvalidTask that names the
    output, its type and the value's, where they do not fit."""
    if declared is None:
        declared = {name: type_of(value) for name, value in outputs.items()}
    used = {name: outputs[name] for name in declared.keys() & outputs.keys()}
    return literals_pb2.LiteralMap(literals=each("output", used, declared, encode_literal))


def encode_literal(value: object, declared: Type | None = None) -> literals_pb2.Literal:
    """The literal for a Python value; with no declared type the one that the value suggests.

    An int is good for a float, a datetime without time zone is UTC, a date is its midnight in
    UTC, and a dict for a struct is written as msgpack, as flytekit 1.14 and later do.
    """
    return _encode(value, declared or type_of(value))


_OFFLOADED = (
    "it is so large that Flyte offloaded it to storage, where agents cannot read it;"
    " pass a file or a structured dataset instead, or raise"
    " `min-size-in-mb-for-offloading` in FlytePropeller's `literal-offloading-config`"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_UNKNOWN = "it is empty, or of a kind newer than this version of flyteagents"


def _decode(message: Any) -> object:
    """The value of a Literal, a Scalar or a Primitive, by the one field that is set."""
    which = message.WhichOneof("value")
    if which not in _READERS:
        raise InvalidTask(_OFFLOADED if which == "offloaded_metadata" else _UNKNOWN)
    try:
        return _READERS[which](getattr(message, which))
    except (ValueError, OverflowError):
        raise InvalidTask(f"a {which} that is out of range") from None


def _unpack(packed: bytes) -> object:
    def refuse(code: int, _: bytes) -> None:
        raise ValueError(f"msgpack extension {code}")

    try:
        # Keys need not be text: flytekit packs dict[int, str] this way. 3: timestamps as datetime.
        return msgpack.unpackb(packed, strict_map_key=False, timestamp=3, ext_hook=refuse)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise InvalidTask(f"it is not valid msgpack: {error or type(error).__name__}") from None


def _read_blob(blob: Any) -> Blob:
    shape = blob.metadata.type
    return Blob(blob.uri, shape.format, shape.dimensionality == types_pb2.BlobType.MULTIPART)


def _read_dataset(dataset: Any) -> StructuredDataset:
    table = dataset.metadata.structured_dataset_type
    shape = decode_type(types_pb2.LiteralType(structured_dataset_type=table))
    return StructuredDataset(dataset.uri, shape.columns, shape.format)


# The fields of Literal, then of Scalar, then of Primitive: no two have the same name.
_READERS: dict[str | None, Callable[[Any], object]] = {
    "scalar": _decode,
    "collection": lambda m: [_decode(item) for item in m.literals],
    "map": lambda m: {key: _decode(item) for key, item in m.literals.items()},
    "primitive": _decode,
    "none_type": lambda _: None,
    "union": lambda m: decode_literal(m.value, decode_type(m.type) if m.HasField("type") else None),
    "generic": from_struct,
    "binary": lambda m: _unpack(m.value) if m.tag == "msgpack" else Binary(m.value, m.tag),
    "blob": _read_blob,
    "schema": lambda m: Schema(m.uri, decode_type(types_pb2.LiteralType(schema=m.type)).columns),
    "structured_dataset": _read_dataset,
    "error": lambda m: {"message": m.message, "failed_node_id": m.failed_node_id},
    "integer": int,
    "float_value": float,
    "string_value": str,
    "boolean": bool,
    # ToDatetime refuses the negative nanos that are written for times before 1970.
    "datetime": lambda m: _EPOCH + timedelta(seconds=m.seconds, microseconds=int(m.nanos / 1000)),
    "duration": lambda m: m.ToTimedelta(),
}


def _encode(value: Any, declared: Type, exact: bool = False) -> literals_pb2.Literal:
    def inside(item: object) -> literals_pb2.Literal:
        return _encode(item, declared.element if declared.of else type_of(item), exact)

    kind = declared.kind
    if kind is Kind.UNION:
        variant, chosen = choose(value, declared, exact, _encode)
        # flytekit picks what reads a union by the tag in this type, so it has to be the variant's.
        union = literals_pb2.Union(value=chosen, type=encode_type(variant))
        return literals_pb2.Literal(scalar={"union": union})
    if not takes(value, declared, exact):
        raise misfit(value, declared)
    try:
        if kind is Kind.COLLECTION:
            return literals_pb2.Literal(collection={"literals": map(inside, value)})
        if kind is Kind.MAP:
            if not all(isinstance(key, str) for key in value):
                raise TypeError("it has keys that are not text")
            literals = {key: inside(item) for key, item in value.items()}
            return literals_pb2.Literal(map={"literals": literals})
        return literals_pb2.Literal(scalar=_WRITERS[kind](value, declared))
    except (ValueError, TypeError, OverflowError) as error:
        raise misfit(value, declared, error) from None


def _moment(value: date) -> datetime:
    return value if isinstance(value, datetime) else datetime.combine(value, time())


def _span(value: timedelta) -> timedelta:
    if abs(value) > timedelta(seconds=315_576_000_000):  # google/protobuf/duration.proto
        raise OverflowError("longer than 10,000 years")
    return value


def _shape(value: Blob | Schema | StructuredDataset, declared: Type) -> types_pb2.LiteralType:
    """What the value tells of its type, and the rest as it is declared."""
    told = {name: part for name, part in vars(value).items() if part and name != "uri"}
    if "multipart" in told and not declared.multipart:
        raise ValueError("it is a directory")
    return encode_type(replace(declared, **told))


# The one field of a Scalar, for a value that its declared type takes.
_WRITERS: dict[Kind, Callable[[Any, Type], dict[str, Any]]] = {
    Kind.NONE: lambda v, of: {"none_type": {}},
    Kind.INTEGER: lambda v, of: {"primitive": {"integer": v}},
    Kind.FLOAT: lambda v, of: {"primitive": {"float_value": v}},
    Kind.STRING: lambda v, of: {"primitive": {"string_value": v}},
    Kind.ENUM: lambda v, of: {"primitive": {"string_value": v}},
    Kind.BOOLEAN: lambda v, of: {"primitive": {"boolean": v}},
    Kind.DATETIME: lambda v, of: {"primitive": {"datetime": _moment(v)}},
    Kind.DURATION: lambda v, of: {"primitive": {"duration": _span(v)}},
    Kind.BINARY: lambda v, of: {"binary": vars(v) if isinstance(v, Binary) else {"value": v}},
    Kind.STRUCT: lambda v, of: {"binary": {"value": msgpack.packb(dict(v)), "tag": "msgpack"}},
    Kind.ERROR: lambda v, of: {"error": dict(v)},
    Kind.BLOB: lambda v, of: {"blob": {"uri": v.uri, "metadata": {"type": _shape(v, of).blob}}},
    Kind.SCHEMA: lambda v, of: {"schema": {"uri": v.uri, "type": _shape(v, of).schema}},
    Kind.STRUCTURED_DATASET: lambda v, of: {
        "structured_dataset": {
            "uri": v.uri,
            "metadata": {"structured_dataset_type": _shape(v, of).structured_dataset_type},
        }
    },
}
