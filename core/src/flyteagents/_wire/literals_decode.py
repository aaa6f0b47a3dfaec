"""From `flyteidl.core.Literal` to Python.

A declared type is not only checked: values that reach a task by attribute access (`t(x=dc.x)`)
come as whatever msgpack or a protobuf Struct made of them, and get their declared type back.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone

from flyteidl.core import literals_pb2
from google.protobuf import struct_pb2

from flyteagents._errors import InvalidTask
from flyteagents._types import Kind, Type
from flyteagents._values import Binary, Blob, Schema, StructuredDataset
from flyteagents._wire.types import dataset_columns, decode_type, schema_columns

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def decode_literals(
    literals: literals_pb2.LiteralMap, interface: Mapping[str, Type]
) -> dict[str, object]:
    """The inputs of a task by name. Raises InvalidTask that names the input it is about."""
    values, name = {}, ""
    try:
        for name, literal in literals.literals.items():
            values[name] = decode_literal(literal, interface.get(name))
    except InvalidTask as error:
        raise about("input", name, interface.get(name), error) from None
    return values


def decode_literal(literal: literals_pb2.Literal, declared: Type | None = None) -> object:
    """The Python value of a literal.

    Datetimes are aware, in UTC, and cut to microseconds; a union is the value inside; an error is
    `{"message": ..., "failed_node_id": ...}`. A Struct is a dict whose numbers are all floats, as
    they are on the wire, except where the declared type has integers (a map of integers).
    None passes for any type, as it does in Flyte.
    """
    value = _decode(literal)
    return value if declared is None else fit(value, declared)


def fit(value: object, declared: Type, exact: bool = False) -> object:
    """`value` as the declared type has it; raises InvalidTask if it cannot be. `exact` is for the
    variants of a union: the one that needs no conversion goes first."""
    kind = declared.kind
    if kind is Kind.UNION:
        for strictly in (True,) if exact else (True, False):
            for variant in declared.of:
                try:
                    return fit(value, variant, strictly)
                except InvalidTask:
                    continue
    elif kind is Kind.COLLECTION and isinstance(value, list):
        return [fit(item, declared.element, exact) for item in value]
    elif kind is Kind.MAP and isinstance(value, dict):
        return {key: fit(item, declared.element, exact) for key, item in value.items()}
    elif kind is Kind.ENUM and isinstance(value, str):
        if value in declared.values or not declared.values:
            return value
    elif type(value) is _PYTHON.get(kind):
        return value
    elif not exact:
        if value is None or kind in (Kind.BINARY, Kind.ERROR):
            return value
        converted = _convert(value, kind)
        if converted is not None:
            return converted
    raise misfit(value, declared)


def misfit(value: object, declared: Type) -> InvalidTask:
    return InvalidTask(f"a value of type {type(value).__name__} is not {describe(declared)}")


def about(role: str, name: str, declared: Type | None, error: InvalidTask) -> InvalidTask:
    """`error` with the name of the input or output in front."""
    stated = f", declared {describe(declared)}" if declared else ""
    return InvalidTask(f"{role} {name!r}{stated}: {error.message}")


def describe(declared: Type) -> str:
    """A type in words for a message."""
    if declared.kind is Kind.UNION:
        return "union of " + ", ".join(map(describe, declared.of))
    if declared.kind is Kind.ENUM:
        return "enum of " + ", ".join(declared.values)
    if declared.of:
        return f"{declared.kind.value} of {describe(declared.element)}"
    return str(declared.kind.value)


_PYTHON: dict[Kind, type] = {
    Kind.NONE: type(None),
    Kind.INTEGER: int,
    Kind.FLOAT: float,
    Kind.STRING: str,
    Kind.BOOLEAN: bool,
    Kind.DATETIME: datetime,
    Kind.DURATION: timedelta,
    Kind.BINARY: Binary,
    Kind.ERROR: dict,
    Kind.STRUCT: dict,
    Kind.BLOB: Blob,
    Kind.SCHEMA: Schema,
    Kind.STRUCTURED_DATASET: StructuredDataset,
}
_TABLES = (Kind.SCHEMA, Kind.STRUCTURED_DATASET)


def _convert(value: object, kind: Kind) -> object:
    """What flytekit and FlytePropeller also take for one another; None where they do not."""
    try:
        if isinstance(value, float) and kind is Kind.INTEGER and value.is_integer():
            return int(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if kind is Kind.FLOAT:
                return float(value)
            if kind is Kind.DURATION:
                return timedelta(seconds=value)
        if isinstance(value, str) and kind is Kind.DATETIME:
            moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
            aware = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
            return aware.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None
    if kind in _TABLES and isinstance(value, Schema | StructuredDataset):
        return value
    if kind is Kind.STRUCT and isinstance(value, list):
        return value
    if isinstance(value, dict):  # flytekit's file and table types, as fields of a dataclass
        uri = value.get("path") or value.get("uri") or value.get("remote_path")
        if kind is Kind.BLOB and isinstance(uri, str):
            return Blob(uri)
        if kind in _TABLES and isinstance(uri, str):
            return StructuredDataset(uri, format=str(value.get("file_format") or ""))
    return None


def _decode(literal: literals_pb2.Literal) -> object:
    which = literal.WhichOneof("value")
    if which == "scalar":
        return _scalar(literal.scalar)
    if which == "collection":
        return [_decode(item) for item in literal.collection.literals]
    if which == "map":
        return {key: _decode(item) for key, item in literal.map.literals.items()}
    if which == "offloaded_metadata":
        raise InvalidTask(
            "it is so large that Flyte offloaded it to storage, where agents cannot read it;"
            " pass a file or a structured dataset instead, or raise"
            " `min-size-in-mb-for-offloading` in FlytePropeller's `literal-offloading-config`"
        )
    raise InvalidTask("it is empty, or of a kind newer than this version of flyteagents")


def _scalar(scalar: literals_pb2.Scalar) -> object:
    which = scalar.WhichOneof("value")
    if which == "primitive":
        return _primitive(scalar.primitive)
    if which == "none_type":
        return None
    if which == "union":
        union = scalar.union
        stored = decode_type(union.type) if union.HasField("type") else None
        return decode_literal(union.value, stored)
    if which == "generic":
        return {key: _json(item) for key, item in scalar.generic.fields.items()}
    if which == "binary":
        tag = str(scalar.binary.tag)
        value = bytes(scalar.binary.value)
        return _msgpack(value) if tag == "msgpack" else Binary(value, tag)
    if which == "blob":
        blob = scalar.blob.metadata.type
        multipart = blob.dimensionality == type(blob).MULTIPART
        return Blob(scalar.blob.uri, blob.format, multipart)
    if which == "schema":
        return Schema(scalar.schema.uri, schema_columns(scalar.schema.type))
    if which == "structured_dataset":
        table = scalar.structured_dataset.metadata.structured_dataset_type
        return StructuredDataset(
            scalar.structured_dataset.uri, dataset_columns(table), table.format
        )
    if which == "error":
        return {"message": scalar.error.message, "failed_node_id": scalar.error.failed_node_id}
    raise InvalidTask("it is empty, or of a kind newer than this version of flyteagents")


def _primitive(primitive: literals_pb2.Primitive) -> object:
    which = primitive.WhichOneof("value")
    try:
        if which == "datetime":
            return _EPOCH + _span(primitive.datetime.seconds, primitive.datetime.nanos)
        if which == "duration":
            return _span(primitive.duration.seconds, primitive.duration.nanos)
    except OverflowError:
        raise InvalidTask(f"a {which} that is out of range") from None
    if which is None:
        raise InvalidTask("it is empty, or of a kind newer than this version of flyteagents")
    value: object = getattr(primitive, which)
    return value


def _span(seconds: int, nanos: int) -> timedelta:
    return timedelta(seconds=seconds, microseconds=int(nanos / 1000))


def _json(value: struct_pb2.Value) -> object:
    which = value.WhichOneof("kind")
    if which == "struct_value":
        return {key: _json(item) for key, item in value.struct_value.fields.items()}
    if which == "list_value":
        return [_json(item) for item in value.list_value.values]
    plain: object = None if which in (None, "null_value") else getattr(value, which)
    return plain


def _msgpack(packed: bytes) -> object:
    import msgpack

    def refuse(code: int, _: bytes) -> None:
        raise ValueError(f"msgpack extension {code}")

    try:
        # Keys need not be text: flytekit packs dict[int, str] this way. 3: timestamps as datetime.
        value: object = msgpack.unpackb(packed, strict_map_key=False, timestamp=3, ext_hook=refuse)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise InvalidTask(f"it is not valid msgpack: {error or type(error).__name__}") from None
    return value
