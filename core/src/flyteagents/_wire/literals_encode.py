"""From Python to `flyteidl.core.Literal`, by the type that the task declares."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone

from flyteidl.core import literals_pb2, types_pb2
from google.protobuf import duration_pb2, timestamp_pb2

from flyteagents._errors import InvalidTask
from flyteagents._types import Kind, Type
from flyteagents._values import Binary, Blob, Schema, StructuredDataset
from flyteagents._wire.literals_decode import about, misfit
from flyteagents._wire.types import blob_type, dataset_type, encode_type, schema_type


def encode_literals(
    outputs: Mapping[str, object], declared: Mapping[str, Type]
) -> literals_pb2.LiteralMap:
    """The declared ones of `outputs`; Flyte has no use for the others. Raises InvalidTask that
    names the output, its type and the value's, where they do not fit."""
    message, name = literals_pb2.LiteralMap(), ""
    try:
        for name in declared.keys() & outputs.keys():
            message.literals[name].CopyFrom(encode_literal(outputs[name], declared[name]))
    except InvalidTask as error:
        raise about("output", name, declared[name], error) from None
    return message


def encode_literal(value: object, declared: Type | None = None) -> literals_pb2.Literal:
    """The literal for a Python value; with no declared type the one that the value suggests.

    An int is good for a float, a datetime without time zone is UTC, a date is its midnight in
    UTC, and a dict for a struct is written as msgpack, as flytekit 1.14 and later do.
    """
    return _encode(value, declared or _suggest(value))


def _encode(value: object, declared: Type, exact: bool = False) -> literals_pb2.Literal:
    kind = declared.kind
    literal = literals_pb2.Literal()
    if kind is Kind.UNION:
        return _union(value, declared, exact)
    if kind is Kind.COLLECTION and isinstance(value, list | tuple):
        literal.collection.SetInParent()
        for item in value:
            element = declared.element if declared.of else _suggest(item)
            literal.collection.literals.append(_encode(item, element, exact))
    elif kind is Kind.MAP and isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        literal.map.SetInParent()
        for key, item in value.items():
            element = declared.element if declared.of else _suggest(item)
            literal.map.literals[key].CopyFrom(_encode(item, element, exact))
    else:
        try:
            written = _primitive(literal.scalar, value, declared, exact) or _scalar(
                literal.scalar, value, declared
            )
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidTask(f"{misfit(value, declared).message}: {error}") from None
        if not written:
            raise misfit(value, declared)
    return literal


def _union(value: object, declared: Type, exact: bool) -> literals_pb2.Literal:
    # With int | float both take 1: the variant that takes it as it is goes first.
    for strictly in (True,) if exact else (True, False):
        for variant in declared.of:
            try:
                inner = _encode(value, variant, strictly)
            except InvalidTask:
                continue
            union = literals_pb2.Union(value=inner, type=encode_type(variant))
            return literals_pb2.Literal(scalar=literals_pb2.Scalar(union=union))
    raise misfit(value, declared)


def _primitive(scalar: literals_pb2.Scalar, value: object, declared: Type, exact: bool) -> bool:
    kind = declared.kind
    # bool is an int to Python, and to nobody else.
    integer = isinstance(value, int) and not isinstance(value, bool)
    if kind is Kind.INTEGER and integer:
        scalar.primitive.integer = value
    elif kind is Kind.FLOAT and (isinstance(value, float) or (integer and not exact)):
        scalar.primitive.float_value = value
    elif kind is Kind.BOOLEAN and isinstance(value, bool):
        scalar.primitive.boolean = value
    elif (kind is Kind.STRING and isinstance(value, str)) or (
        kind is Kind.ENUM and isinstance(value, str) and value in declared.values
    ):
        scalar.primitive.string_value = value
    elif kind is Kind.DATETIME and isinstance(value, date):
        moment = value if isinstance(value, datetime) else datetime.combine(value, time())
        stamp = timestamp_pb2.Timestamp()
        stamp.FromDatetime(moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc))
        scalar.primitive.datetime.CopyFrom(stamp)
    elif kind is Kind.DURATION and isinstance(value, timedelta):
        if abs(value) > _LONGEST:
            raise OverflowError("longer than 10,000 years")
        span = duration_pb2.Duration()
        span.FromTimedelta(value)
        scalar.primitive.duration.CopyFrom(span)
    else:
        return False
    return True


def _scalar(scalar: literals_pb2.Scalar, value: object, declared: Type) -> bool:
    kind = declared.kind
    if kind is Kind.NONE and value is None:
        scalar.none_type.SetInParent()
    elif kind is Kind.STRUCT and isinstance(value, Mapping):
        import msgpack

        scalar.binary.CopyFrom(literals_pb2.Binary(value=msgpack.packb(dict(value)), tag="msgpack"))
    elif kind is Kind.BINARY and isinstance(value, Binary):
        scalar.binary.CopyFrom(literals_pb2.Binary(value=value.value, tag=value.tag))
    elif kind is Kind.BINARY and isinstance(value, bytes):
        scalar.binary.CopyFrom(literals_pb2.Binary(value=value))
    elif kind is Kind.BLOB and isinstance(value, Blob):
        if value.multipart and not declared.multipart:
            return False
        blob = blob_type(value.format or declared.format, declared.multipart)
        scalar.blob.uri = value.uri
        scalar.blob.metadata.type.CopyFrom(blob)
    elif kind is Kind.SCHEMA and isinstance(value, Schema):
        scalar.schema.uri = value.uri
        scalar.schema.type.CopyFrom(schema_type(value.columns or declared.columns))
    elif kind is Kind.STRUCTURED_DATASET and isinstance(value, StructuredDataset):
        table = dataset_type(value.columns or declared.columns, value.format or declared.format)
        scalar.structured_dataset.uri = value.uri
        scalar.structured_dataset.metadata.structured_dataset_type.CopyFrom(table)
    elif kind is Kind.ERROR and isinstance(value, Mapping) and {*value} <= _ERROR:
        scalar.error.CopyFrom(types_pb2.Error(**value))
    else:
        return False
    return True


_LONGEST = timedelta(seconds=315_576_000_000)  # google/protobuf/duration.proto
_ERROR = {"message", "failed_node_id"}
_SUGGESTED: tuple[tuple[type | tuple[type, ...], Kind], ...] = (
    (bool, Kind.BOOLEAN),
    (int, Kind.INTEGER),
    (float, Kind.FLOAT),
    (str, Kind.STRING),
    (date, Kind.DATETIME),
    (timedelta, Kind.DURATION),
    ((Binary, bytes), Kind.BINARY),
    (Schema, Kind.SCHEMA),
    (StructuredDataset, Kind.STRUCTURED_DATASET),
    ((list, tuple), Kind.COLLECTION),
    (Mapping, Kind.STRUCT),
)


def _suggest(value: object) -> Type:
    if isinstance(value, Blob):
        return Type(Kind.BLOB, multipart=value.multipart)
    for of, kind in _SUGGESTED:
        if isinstance(value, of):
            return Type(kind)
    if value is None:
        return Type(Kind.NONE)
    raise InvalidTask(f"Flyte has no type for a value of type {type(value).__name__}")
