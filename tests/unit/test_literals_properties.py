"""Every type, every value, any bytes."""

from __future__ import annotations

import contextlib
import math
from datetime import datetime, timedelta, timezone
from typing import Any

from flyteidl.core import literals_pb2
from google.protobuf.message import DecodeError
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from flyteagents import Binary, Blob, Column, InvalidTask, Kind, Schema, StructuredDataset, Type
from flyteagents._wire.literals import decode_literal, encode_literal
from flyteagents._wire.types import decode_type, encode_type

Pairs = st.SearchStrategy[tuple[Type, Any]]

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
int64 = st.integers(-(2**63), 2**63 - 1)
moments = st.datetimes(timezones=st.just(timezone.utc))
spans = st.timedeltas(timedelta(days=-3_652_500), timedelta(days=3_652_500))
json_values = st.recursive(
    st.none() | st.booleans() | int64 | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
tags = st.sampled_from(["", "int", "Typed List"])
simple_columns = st.builds(
    Column,
    text,
    st.sampled_from([Kind.INTEGER, Kind.FLOAT, Kind.STRING, Kind.BOOLEAN, Kind.DATETIME]).map(Type),
)


def of(kind: Kind, values: st.SearchStrategy[Any]) -> Pairs:
    return st.tuples(st.builds(Type, st.just(kind), tag=tags), values)


def pair(declared: Type, value: object) -> tuple[Type, object]:
    return declared, value


def columns(types: st.SearchStrategy[Type]) -> st.SearchStrategy[tuple[Column, ...]]:
    return st.lists(st.builds(Column, text, types), max_size=2).map(tuple)


def enums(values: list[str]) -> Pairs:
    declared = Type(Kind.ENUM, values=tuple(values))
    return st.sampled_from(values).map(lambda value: pair(declared, value))


leaves: Pairs = st.one_of(
    of(Kind.NONE, st.none()),
    of(Kind.INTEGER, int64),
    of(Kind.FLOAT, st.floats(allow_nan=False)),
    of(Kind.STRING, text),
    of(Kind.BOOLEAN, st.booleans()),
    of(Kind.DATETIME, moments),
    of(Kind.DURATION, spans),
    of(Kind.BINARY, st.builds(Binary, st.binary(max_size=8), st.just("avro"))),
    of(Kind.ERROR, st.fixed_dictionaries({"message": text, "failed_node_id": text})),
    of(Kind.STRUCT, st.dictionaries(text, json_values, max_size=3)),
    of(Kind.SCHEMA, st.builds(Schema, text, st.lists(simple_columns, max_size=2).map(tuple))),
    st.builds(
        lambda f, u, m: (Type(Kind.BLOB, format=f, multipart=m), Blob(u, f, m)),
        text,
        text,
        st.booleans(),
    ),
    st.lists(text, min_size=1, max_size=3).flatmap(enums),
)


def nested(inner: Pairs) -> Pairs:
    def wrap(kind: Kind) -> Pairs:
        def values(one: tuple[Type, Any]) -> Pairs:
            declared, value = one
            lists = st.integers(0, 2).map(lambda n: pair(Type(kind, (declared,)), [value] * n))
            maps = st.lists(text, max_size=2).map(
                lambda keys: pair(Type(kind, (declared,)), dict.fromkeys(keys, value))
            )
            return lists if kind is Kind.COLLECTION else maps

        return inner.flatmap(values)

    def union(one: tuple[Type, Any], others: list[tuple[Type, Any]]) -> tuple[Type, object]:
        return Type(Kind.UNION, (one[0], *(other for other, _ in others))), one[1]

    tables = st.builds(
        lambda cs, f, u: (Type(Kind.STRUCTURED_DATASET), StructuredDataset(u, cs, f)),
        columns(inner.map(lambda one: one[0])),
        text,
        text,
    )
    unions = st.builds(union, inner, st.lists(leaves, max_size=2))
    return wrap(Kind.COLLECTION) | wrap(Kind.MAP) | unions | tables


typed = st.recursive(leaves, nested, max_leaves=6)


def through_the_wire(literal: literals_pb2.Literal) -> literals_pb2.Literal:
    return literals_pb2.Literal.FromString(literal.SerializeToString())


@given(typed)
def test_a_type_survives_a_round_trip(one: tuple[Type, Any]) -> None:
    declared, _ = one
    assert decode_type(encode_type(declared)) == declared


@settings(max_examples=300)
@given(typed)
def test_a_value_survives_a_round_trip(one: tuple[Type, Any]) -> None:
    declared, value = one
    literal = through_the_wire(encode_literal(value, declared))
    for decoded in (decode_literal(literal, declared), decode_literal(literal)):
        assert decoded == value
        assert type(decoded) is type(value)


@given(st.floats())
def test_a_float_survives_a_round_trip_bit_by_bit(value: float) -> None:
    decoded = decode_literal(through_the_wire(encode_literal(value)), Type(Kind.FLOAT))
    assert isinstance(decoded, float)
    assert decoded == value or (math.isnan(decoded) and math.isnan(value))
    assert math.copysign(1, decoded) == math.copysign(1, value)


@given(st.datetimes(timezones=st.timezones()))
def test_a_datetime_of_any_zone_is_the_same_moment(value: datetime) -> None:
    try:
        decoded = decode_literal(encode_literal(value))
    except InvalidTask:  # year 1 or 9999, and another year in UTC
        assume(value.year not in (1, 9999))
        raise
    assert decoded == value.astimezone(timezone.utc)


anything = st.none() | st.booleans() | int64 | st.floats() | text | moments | spans | st.binary()
values_of_any_kind = st.recursive(
    anything | st.builds(Blob, text) | st.builds(StructuredDataset, text) | st.just(object()),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=4,
)


@given(values_of_any_kind, typed)
def test_a_value_fits_or_is_an_invalid_task(value: object, one: tuple[Type, Any]) -> None:
    declared, _ = one
    try:
        literal = encode_literal(value, declared)
    except InvalidTask:
        return
    decode_literal(literal, declared)


@settings(max_examples=500)
@given(st.binary(max_size=200), st.none() | typed.map(lambda one: one[0]))
@example(b"\x0a\x0f\x1a\x0d\x0a\x02\x91\xc0\x12\x07msgpack", Type(Kind.INTEGER))
def test_any_bytes_are_a_value_or_an_invalid_task(wire: bytes, declared: Type | None) -> None:
    try:
        literal = literals_pb2.Literal.FromString(wire)
    except DecodeError:
        return
    with contextlib.suppress(InvalidTask):
        decode_literal(literal, declared)


@settings(max_examples=500)
@given(typed, typed.map(lambda one: one[0]), st.data())
def test_damaged_bytes_are_a_value_or_an_invalid_task(
    one: tuple[Type, Any], other: Type, data: st.DataObject
) -> None:
    declared, value = one
    wire = bytearray(encode_literal(value, declared).SerializeToString())
    assume(wire)
    for _ in range(data.draw(st.integers(0, 3))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    try:
        literal = literals_pb2.Literal.FromString(bytes(wire))
    except DecodeError:
        return
    for expected in (None, declared, other):
        with contextlib.suppress(InvalidTask):
            decode_literal(literal, expected)


@given(st.binary(max_size=60))
def test_any_bytes_tagged_msgpack_are_a_value_or_an_invalid_task(value: bytes) -> None:
    binary = literals_pb2.Binary(value=value, tag="msgpack")
    literal = literals_pb2.Literal(scalar=literals_pb2.Scalar(binary=binary))
    for declared in (None, Type(Kind.MAP, (Type(Kind.DATETIME),)), Type(Kind.DURATION)):
        with contextlib.suppress(InvalidTask):
            decode_literal(literal, declared)
