"""Structs: JSON as protobuf has it."""

from __future__ import annotations

import math
from datetime import date
from types import MappingProxyType

import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from flyteagents._wire.structs import from_struct, to_struct

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(text, json_values, max_size=3))
def test_json_survives_a_round_trip(values: dict[str, object]) -> None:
    wire = to_struct(values).SerializeToString()
    assert from_struct(struct_pb2.Struct.FromString(wire)) == values


def test_nan_and_infinity_pass_though_json_has_none() -> None:
    back = from_struct(to_struct({"a": math.nan, "b": [math.inf, -math.inf]}))
    assert isinstance(back["a"], float)
    assert math.isnan(back["a"])
    assert back["b"] == [math.inf, -math.inf]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (3, 3),
        (2.5, 2.5),
        (10.0, 10),
        (1e300, 1e300),
        (True, True),
        ((1, "a"), [1, "a"]),
        (MappingProxyType({"a": {}}), {"a": {}}),
        ({1: {None: []}}, {"1": {"None": []}}),
        (date(2024, 2, 29), "2024-02-29"),
        (b"x", "b'x'"),
    ],
)
def test_what_json_does_not_have_is_the_nearest_that_it_has(value: object, read: object) -> None:
    back = from_struct(to_struct({"x": value}))["x"]
    assert back == read
    assert type(back) is type(read)


def test_a_value_that_says_no_kind_is_none() -> None:
    struct = struct_pb2.Struct()
    struct.fields["x"].SetInParent()
    assert from_struct(struct) == {"x": None}


def test_what_a_struct_cannot_hold_is_sent_all_the_same() -> None:
    sent = from_struct(to_struct({"n": -(10**5000), "half \ud800": "a \ud800"}))
    assert sent == {"n": -math.inf, "half ?": "a ?"}
