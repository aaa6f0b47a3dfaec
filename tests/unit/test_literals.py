"""Literals one by one: what a value means, and what is refused."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta, timezone

import msgpack
import pytest
from flyteidl.core import interface_pb2, literals_pb2, types_pb2
from google.protobuf import struct_pb2

from flyteagents import (
    Binary,
    Blob,
    Column,
    InvalidTask,
    Kind,
    Schema,
    StructuredDataset,
    Type,
)
from flyteagents._wire.literals import (
    decode_literal,
    decode_literals,
    encode_literal,
    encode_literals,
)
from flyteagents._wire.types import decode_type, decode_variables, encode_type

INTEGER, FLOAT, STRING = Type(Kind.INTEGER), Type(Kind.FLOAT), Type(Kind.STRING)
NOON = datetime(2024, 1, 2, 12, tzinfo=timezone.utc)


def scalar(**value: object) -> literals_pb2.Literal:
    return literals_pb2.Literal(scalar=literals_pb2.Scalar(**value))


def primitive(**value: object) -> literals_pb2.Literal:
    return scalar(primitive=literals_pb2.Primitive(**value))


def packed(value: object) -> literals_pb2.Literal:
    return scalar(binary=literals_pb2.Binary(value=msgpack.packb(value), tag="msgpack"))


def union(of: Kind, *others: Kind) -> Type:
    return Type(Kind.UNION, tuple(Type(kind) for kind in (of, *others)))


def test_zero_false_and_empty_text_are_values() -> None:
    for literal, value in (
        (primitive(integer=0), 0),
        (primitive(boolean=False), False),
        (primitive(string_value=""), ""),
        (primitive(float_value=0.0), 0.0),
    ):
        again = literals_pb2.Literal.FromString(literal.SerializeToString())
        assert decode_literal(again) == value
        assert type(decode_literal(again)) is type(value)


def test_a_datetime_is_aware_and_cut_to_microseconds() -> None:
    literal = primitive()
    literal.scalar.primitive.datetime.seconds = -1
    literal.scalar.primitive.datetime.nanos = 999_999_999
    value = decode_literal(literal)
    assert value == datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc)


def test_a_datetime_with_negative_nanos_counts_them_backwards() -> None:
    literal = primitive(datetime={"seconds": 1, "nanos": -1_500_999})
    before = datetime(1970, 1, 1, 0, 0, 0, 998_500, tzinfo=timezone.utc)
    assert decode_literal(literal) == before


@pytest.mark.parametrize("field", ["datetime", "duration"])
def test_a_time_that_python_cannot_hold_is_an_invalid_task(field: str) -> None:
    literal = primitive()
    getattr(literal.scalar.primitive, field).seconds = 2**62
    with pytest.raises(InvalidTask, match=f"{field} that is out of range"):
        decode_literal(literal)


def test_whole_numbers_in_a_struct_are_integers_again() -> None:
    struct = struct_pb2.Struct()
    struct.update({"a": 1, "b": [True, None, "x", {"c": 2.5}], "n": math.inf})
    value = decode_literal(scalar(generic=struct), Type(Kind.STRUCT))
    assert value == {"a": 1, "b": [True, None, "x", {"c": 2.5}], "n": math.inf}
    assert type(value["a"]) is int


def test_a_struct_for_a_map_of_integers_has_integers() -> None:
    struct = struct_pb2.Struct()
    struct.update({"a": 1})
    value = decode_literal(scalar(generic=struct), Type(Kind.MAP, (INTEGER,)))
    assert value == {"a": 1}
    assert type(value["a"]) is int


def test_msgpack_is_unpacked_and_other_bytes_keep_their_tag() -> None:
    assert decode_literal(packed({1: [b"x", None, 1.0]})) == {1: [b"x", None, 1.0]}
    other = scalar(binary=literals_pb2.Binary(value=b"\x00", tag="avro"))
    assert decode_literal(other) == Binary(b"\x00", "avro")


@pytest.mark.parametrize(
    "value",
    [b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xc4", b"\x01\x01", b"\x81\x90\x01", b"\xa1\xff"],
    ids=["empty", "reserved", "huge array", "cut", "two values", "list as a key", "not utf-8"],
)
def test_bad_msgpack_is_an_invalid_task(value: bytes) -> None:
    with pytest.raises(InvalidTask, match="msgpack"):
        decode_literal(scalar(binary=literals_pb2.Binary(value=value, tag="msgpack")))


def test_deeply_nested_msgpack_is_an_invalid_task() -> None:
    bomb = literals_pb2.Binary(value=b"\x91" * 100_000 + b"\x01", tag="msgpack")
    with pytest.raises(InvalidTask, match="msgpack"):
        decode_literal(scalar(binary=bomb))


def test_a_msgpack_extension_is_an_invalid_task() -> None:
    with pytest.raises(InvalidTask, match="extension 5"):
        decode_literal(packed(msgpack.ExtType(5, b"x")))


@pytest.mark.parametrize(
    ("literal", "declared", "value"),
    [
        (primitive(float_value=3.0), INTEGER, 3),
        (primitive(integer=3), FLOAT, 3.0),
        (packed(3), INTEGER, 3),
        (packed("2024-01-02T12:00:00+00:00"), Type(Kind.DATETIME), NOON),
        (packed("2024-01-02T14:00:00+02:00"), Type(Kind.DATETIME), NOON),
        (packed("2024-01-02T12:00:00"), Type(Kind.DATETIME), NOON),
        (packed(1.5), Type(Kind.DURATION), timedelta(seconds=1.5)),
        (packed([1, 2.0]), Type(Kind.COLLECTION, (INTEGER,)), [1, 2]),
        (packed({"path": "s3://b/f"}), Type(Kind.BLOB), Blob("s3://b/f")),
        (
            packed({"uri": "s3://b/t", "file_format": "parquet"}),
            Type(Kind.STRUCTURED_DATASET),
            StructuredDataset("s3://b/t", format="parquet"),
        ),
    ],
)
def test_a_value_by_attribute_access_gets_its_declared_type_back(
    literal: literals_pb2.Literal, declared: Type, value: object
) -> None:
    decoded = decode_literal(literal, declared)
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize(
    ("literal", "declared"),
    [
        (primitive(float_value=3.5), INTEGER),
        (primitive(float_value=math.nan), INTEGER),
        (primitive(boolean=True), INTEGER),
        (primitive(boolean=True), FLOAT),
        (primitive(integer=1), STRING),
        (primitive(string_value="red"), Type(Kind.ENUM, values=("green", "blue"))),
        (packed("soon"), Type(Kind.DATETIME)),
        (packed(math.nan), Type(Kind.DURATION)),
        (packed({"size": 1}), Type(Kind.BLOB)),
        (primitive(integer=1), Type(Kind.COLLECTION, (INTEGER,))),
        (primitive(integer=1), union(Kind.STRING, Kind.NONE)),
        (primitive(integer=1), Type(Kind.NONE)),
    ],
)
def test_an_input_that_is_not_of_its_declared_type_is_named(
    literal: literals_pb2.Literal, declared: Type
) -> None:
    literals = literals_pb2.LiteralMap(literals={"x": literal})
    with pytest.raises(InvalidTask, match=r"^input 'x', declared .*: a value of type"):
        decode_literals(literals, {"x": declared})


def test_none_passes_for_any_declared_type_as_it_does_in_flyte() -> None:
    none = scalar(none_type=literals_pb2.Void())
    inside = literals_pb2.LiteralCollection(literals=[none])
    collection = literals_pb2.Literal(collection=inside)
    assert decode_literal(none, INTEGER) is None
    assert decode_literal(collection, Type(Kind.COLLECTION, (INTEGER,))) == [None]


def test_a_union_is_the_value_inside_read_as_its_stored_type() -> None:
    stored = literals_pb2.Union(value=packed(3), type=encode_type(FLOAT))
    value = decode_literal(scalar(union=stored), union(Kind.INTEGER, Kind.FLOAT))
    assert type(value) is float


def test_a_bare_value_for_a_union_takes_the_variant_that_needs_no_conversion() -> None:
    value = decode_literal(primitive(integer=3), union(Kind.FLOAT, Kind.INTEGER))
    assert type(value) is int
    value = decode_literal(primitive(float_value=3.0), union(Kind.INTEGER, Kind.STRING))
    assert type(value) is int


def test_an_error_is_its_message_and_node() -> None:
    error = types_pb2.Error(failed_node_id="n0", message="no such table")
    value = {"message": "no such table", "failed_node_id": "n0"}
    assert decode_literal(scalar(error=error), Type(Kind.ERROR)) == value
    assert encode_literal(value, Type(Kind.ERROR)) == scalar(error=error)


def test_an_offloaded_input_says_what_to_do() -> None:
    stored = literals_pb2.LiteralOffloadedMetadata(uri="s3://b/x", size_bytes=10**8)
    literals = literals_pb2.LiteralMap(literals={"x": {"offloaded_metadata": stored}})
    with pytest.raises(InvalidTask, match=r"input 'x': .*pass a file or a structured dataset"):
        decode_literals(literals, {})


@pytest.mark.parametrize("literal", [literals_pb2.Literal(), scalar(), primitive()])
def test_an_empty_literal_is_an_invalid_task(literal: literals_pb2.Literal) -> None:
    with pytest.raises(InvalidTask, match="is empty"):
        decode_literal(literal)


def test_undeclared_inputs_are_decoded_too() -> None:
    literals = literals_pb2.LiteralMap(literals={"x": primitive(integer=1)})
    assert decode_literals(literals, {}) == {"x": 1}


def test_a_type_that_is_too_new_names_its_variable() -> None:
    variables = interface_pb2.VariableMap()
    variables.variables["x"].type.simple = 99
    with pytest.raises(InvalidTask, match=r"variable 'x'.*number 99"):
        decode_variables(variables)
    variables.variables["x"].type.ClearField("simple")
    with pytest.raises(InvalidTask, match=r"variable 'x'.*missing"):
        decode_variables(variables)


def test_schema_columns_have_their_own_numbers() -> None:
    message = types_pb2.LiteralType()
    message.schema.columns.add(name="a", type=types_pb2.SchemaType.SchemaColumn.INTEGER)
    message.schema.columns.add(name="z", type=types_pb2.SchemaType.SchemaColumn.DURATION)
    columns = (Column("a", INTEGER), Column("z", Type(Kind.DURATION)))
    assert decode_type(message) == Type(Kind.SCHEMA, columns=columns)


@pytest.mark.parametrize(
    ("value", "declared"),
    [
        (True, INTEGER),
        (True, FLOAT),
        (1, Type(Kind.BOOLEAN)),
        (1.0, INTEGER),
        ("1", INTEGER),
        (2**63, INTEGER),
        (10**400, FLOAT),
        ("\ud800", STRING),
        (b"x", STRING),
        (None, STRING),
        ("red", Type(Kind.ENUM, values=("green",))),
        ("abc", Type(Kind.COLLECTION, (STRING,))),
        ([1, "x"], Type(Kind.COLLECTION, (INTEGER,))),
        ({1: 1}, Type(Kind.MAP, (INTEGER,))),
        ({b"a": 1}, Type(Kind.MAP, (INTEGER,))),
        ({"a": {1, 2}}, Type(Kind.STRUCT)),
        ("s3://b/f", Type(Kind.BLOB)),
        (Blob("s3://b/d", multipart=True), Type(Kind.BLOB)),
        (timedelta.max, Type(Kind.DURATION)),
        (3.5, union(Kind.INTEGER, Kind.STRING)),
        ("x", Type(Kind.NONE)),
        (Schema("x", (Column("a", Type(Kind.STRUCT)),)), Type(Kind.SCHEMA)),
    ],
)
def test_an_output_that_does_not_fit_is_named_with_its_types(value: object, declared: Type) -> None:
    with pytest.raises(InvalidTask, match=r"^output 'x', declared ") as raised:
        encode_literals({"x": value}, {"x": declared})
    assert f"declared {declared.kind.value}" in str(raised.value)
    assert isinstance(value, Schema) or "value of type" in str(raised.value)


def test_the_message_of_a_misfit_is_a_sentence() -> None:
    with pytest.raises(InvalidTask) as raised:
        encode_literals({"rows": ["12"]}, {"rows": Type(Kind.COLLECTION, (INTEGER,))})
    text = "output 'rows', declared collection of integer: a value of type str is not integer"
    assert str(raised.value) == text


def test_undeclared_outputs_are_dropped_and_missing_ones_left_out() -> None:
    message = encode_literals({"x": 1, "y": object()}, {"x": INTEGER, "z": INTEGER})
    assert message == literals_pb2.LiteralMap(literals={"x": primitive(integer=1)})


def test_an_int_is_good_for_a_float_unless_a_variant_takes_ints() -> None:
    assert encode_literal(1, FLOAT) == primitive(float_value=1.0)
    both = encode_literal(1, union(Kind.FLOAT, Kind.INTEGER))
    assert both.scalar.union.value == primitive(integer=1)
    only = encode_literal(1, union(Kind.NONE, Kind.FLOAT))
    assert only.scalar.union.value == primitive(float_value=1.0)


def test_a_value_too_large_for_one_variant_may_go_to_the_next() -> None:
    message = encode_literal(2**70, union(Kind.INTEGER, Kind.FLOAT))
    assert message.scalar.union.value == primitive(float_value=2.0**70)


def test_an_enum_that_does_not_tell_its_values_takes_any_text() -> None:
    red = primitive(string_value="red")
    assert encode_literal("red", Type(Kind.ENUM)) == red
    assert decode_literal(red, Type(Kind.ENUM)) == "red"
    with pytest.raises(InvalidTask):
        encode_literal(1, Type(Kind.ENUM))


def test_a_union_keeps_the_tag_of_its_variant() -> None:
    declared = Type(Kind.UNION, (Type(Kind.INTEGER, tag="int"), Type(Kind.NONE, tag="none")))
    assert encode_literal(None, declared).scalar.union.type.structure.tag == "none"


def test_a_dict_for_a_struct_is_msgpack() -> None:
    message = encode_literal({"a": [1, 2.5, None]}, Type(Kind.STRUCT))
    assert message == packed({"a": [1, 2.5, None]})


def test_a_dataset_takes_columns_and_format_from_its_declared_type() -> None:
    columns = (Column("a", INTEGER), Column("b", Type(Kind.COLLECTION, (STRING,))))
    declared = Type(Kind.STRUCTURED_DATASET, columns=columns, format="parquet")
    plain, own = StructuredDataset("bq://t"), StructuredDataset("bq://t", columns[:1], "csv")
    assert decode_literal(encode_literal(plain, declared)) == StructuredDataset(
        "bq://t", columns, "parquet"
    )
    assert decode_literal(encode_literal(own, declared)) == own


def test_a_blob_takes_format_and_shape_from_its_declared_type() -> None:
    declared = Type(Kind.BLOB, format="csv", multipart=True)
    value = decode_literal(encode_literal(Blob("s3://b/d"), declared))
    assert value == Blob("s3://b/d", "csv", multipart=True)


def test_a_naive_datetime_and_a_date_are_utc() -> None:
    declared = Type(Kind.DATETIME)
    naive = encode_literal(datetime(2024, 1, 2, 12), declared)  # noqa: DTZ001  that is the point
    assert decode_literal(naive) == NOON
    day = decode_literal(encode_literal(date(2024, 1, 2), declared))
    assert day == NOON.replace(hour=0)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        7,
        math.inf,
        "text",
        NOON,
        timedelta(days=-1, microseconds=1),
        [1, "two", [3.0]],
        {"a": {"b": [1]}},
        Blob("s3://b/d", "", multipart=True),
        Schema("s3://b/s", (Column("a", INTEGER),)),
        StructuredDataset("s3://b/t", (Column("a", INTEGER),), "csv"),
        Binary(b"\xff", "avro"),
    ],
)
def test_a_value_without_a_declared_type_says_its_own(value: object) -> None:
    assert decode_literal(encode_literal(value)) == value


def test_a_value_that_flyte_has_no_type_for_is_refused() -> None:
    with pytest.raises(InvalidTask, match="value of type object"):
        encode_literal(object())


def test_a_nest_of_unions_costs_no_exponential_time() -> None:
    declared = Type(Kind.INTEGER)
    for _ in range(60):
        declared = Type(Kind.UNION, (declared, declared) if declared.of == () else (declared,))
    with pytest.raises(InvalidTask):
        decode_literal(primitive(string_value="x"), declared)
    with pytest.raises(InvalidTask):
        encode_literal("x", declared)
