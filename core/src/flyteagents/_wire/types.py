"""`flyteidl.core.LiteralType` to `Type` and back."""

from __future__ import annotations

from flyteidl.core import interface_pb2, types_pb2

from flyteagents._errors import InvalidTask
from flyteagents._types import Column, Kind, Type

# By their numbers in flyteidl/core/types.proto, `SimpleType`. The columns of the older Schema
# have an enum of their own, which is INTEGER to DURATION of this one, counted from 0.
_SIMPLE = (
    Kind.NONE,
    Kind.INTEGER,
    Kind.FLOAT,
    Kind.STRING,
    Kind.BOOLEAN,
    Kind.DATETIME,
    Kind.DURATION,
    Kind.BINARY,
    Kind.ERROR,
    Kind.STRUCT,
)
_NUMBER = {kind: number for number, kind in enumerate(_SIMPLE)}
_SCHEMA = _SIMPLE[1:7]
_SCHEMA_NUMBER = {kind: number for number, kind in enumerate(_SCHEMA)}


def decode_type(message: types_pb2.LiteralType) -> Type:
    """The type that `message` describes. Raises InvalidTask for one that Flyte 1.16 did not know.

    The JSON schema and annotations that SDKs attach are left out.
    """
    tag = str(message.structure.tag)
    which = message.WhichOneof("type")
    if which == "simple":
        return Type(_kind(_SIMPLE, message.simple), tag=tag)
    if which == "collection_type":
        return Type(Kind.COLLECTION, (decode_type(message.collection_type),), tag=tag)
    if which == "map_value_type":
        return Type(Kind.MAP, (decode_type(message.map_value_type),), tag=tag)
    if which == "union_type":
        return Type(Kind.UNION, tuple(map(decode_type, message.union_type.variants)), tag=tag)
    if which == "enum_type":
        return Type(Kind.ENUM, values=tuple(message.enum_type.values), tag=tag)
    if which == "blob":
        multipart = message.blob.dimensionality == types_pb2.BlobType.MULTIPART
        return Type(Kind.BLOB, format=message.blob.format, multipart=multipart, tag=tag)
    if which == "schema":
        return Type(Kind.SCHEMA, columns=schema_columns(message.schema), tag=tag)
    if which == "structured_dataset_type":
        table = message.structured_dataset_type
        columns = dataset_columns(table)
        return Type(Kind.STRUCTURED_DATASET, columns=columns, format=table.format, tag=tag)
    raise InvalidTask("its type is missing, or newer than this version of flyteagents")


def decode_variables(message: interface_pb2.VariableMap) -> dict[str, Type]:
    """Name to declared type, of the inputs or outputs of a task's interface."""
    types, name = {}, ""
    try:
        for name, variable in message.variables.items():
            types[name] = decode_type(variable.type)
    except InvalidTask as error:
        raise InvalidTask(f"variable {name!r} of the interface: {error.message}") from None
    return types


def encode_type(declared: Type) -> types_pb2.LiteralType:
    """The message for `declared`; decodes to an equal `Type`."""
    kind = declared.kind
    message = types_pb2.LiteralType()
    if kind in _NUMBER:
        message.simple = _NUMBER[kind]
    elif kind is Kind.COLLECTION:
        message.collection_type.CopyFrom(encode_type(declared.element))
    elif kind is Kind.MAP:
        message.map_value_type.CopyFrom(encode_type(declared.element))
    elif kind is Kind.UNION:
        message.union_type.SetInParent()
        message.union_type.variants.extend(map(encode_type, declared.of))
    elif kind is Kind.ENUM:
        message.enum_type.SetInParent()
        message.enum_type.values.extend(declared.values)
    elif kind is Kind.BLOB:
        message.blob.CopyFrom(blob_type(declared.format, declared.multipart))
    elif kind is Kind.SCHEMA:
        message.schema.CopyFrom(schema_type(declared.columns))
    else:
        table = dataset_type(declared.columns, declared.format)
        message.structured_dataset_type.CopyFrom(table)
    if declared.tag:
        message.structure.tag = declared.tag
    return message


def schema_columns(message: types_pb2.SchemaType) -> tuple[Column, ...]:
    return tuple(Column(c.name, Type(_kind(_SCHEMA, c.type))) for c in message.columns)


def dataset_columns(message: types_pb2.StructuredDatasetType) -> tuple[Column, ...]:
    return tuple(Column(c.name, decode_type(c.literal_type)) for c in message.columns)


def blob_type(file_format: str, multipart: bool) -> types_pb2.BlobType:
    dimensions = types_pb2.BlobType.MULTIPART if multipart else types_pb2.BlobType.SINGLE
    return types_pb2.BlobType(format=file_format, dimensionality=dimensions)


def schema_type(columns: tuple[Column, ...]) -> types_pb2.SchemaType:
    message = types_pb2.SchemaType()
    for column in columns:
        number = _SCHEMA_NUMBER.get(column.type.kind)
        if number is None:
            raise InvalidTask(
                f"column {column.name!r} is a {column.type.kind.value}, which a schema cannot hold;"
                " use a structured dataset"
            )
        message.columns.add(name=column.name, type=number)
    return message


def dataset_type(columns: tuple[Column, ...], file_format: str) -> types_pb2.StructuredDatasetType:
    message = types_pb2.StructuredDatasetType(format=file_format)
    for column in columns:
        message.columns.add(name=column.name, literal_type=encode_type(column.type))
    return message


def _kind(kinds: tuple[Kind, ...], number: int) -> Kind:
    if not 0 <= number < len(kinds):
        raise InvalidTask(f"its type has number {number}, which this version does not know")
    return kinds[number]
