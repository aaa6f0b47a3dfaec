"""Declared types as a short text, which rides in the envelope and comes back over the wire."""

from __future__ import annotations

import base64
import contextlib
import json
import tracemalloc
import zlib

import pytest
from flyteidl.core import interface_pb2, types_pb2
from hypothesis import given
from hypothesis import strategies as st

from flyteagents import Column, Kind, Type
from flyteagents._wire.types import LIMIT, dump_types, encode_type, load_types

INTEGER = Type(Kind.INTEGER)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
CONTAINERS = (Kind.COLLECTION, Kind.MAP, Kind.UNION)
OWN_FIELDS = (Kind.ENUM, Kind.BLOB, Kind.SCHEMA, Kind.STRUCTURED_DATASET)
simple = st.builds(
    Type, st.sampled_from([k for k in Kind if k not in CONTAINERS + OWN_FIELDS]), tag=names
)
columns_of_a_schema = st.builds(
    Column, names, st.sampled_from([Kind.INTEGER, Kind.STRING, Kind.DURATION]).map(Type)
)
types = st.recursive(
    simple
    | st.builds(Type, st.just(Kind.ENUM), values=st.lists(names, max_size=2).map(tuple), tag=names)
    | st.builds(Type, st.just(Kind.BLOB), format=names, multipart=st.booleans(), tag=names)
    | st.builds(
        Type, st.just(Kind.SCHEMA), columns=st.lists(columns_of_a_schema, max_size=2).map(tuple)
    ),
    lambda inner: st.one_of(
        st.builds(Type, st.sampled_from(CONTAINERS), of=st.tuples(inner), tag=names),
        st.builds(Type, st.just(Kind.UNION), of=st.lists(inner, max_size=3).map(tuple)),
        st.builds(
            Type,
            st.just(Kind.STRUCTURED_DATASET),
            columns=st.lists(st.builds(Column, names, inner), max_size=2).map(tuple),
            format=names,
            tag=names,
        ),
    ),
    max_leaves=5,
)


def variables(**declared: types_pb2.LiteralType) -> bytes:
    of = {name: interface_pb2.Variable(type=its) for name, its in declared.items()}
    plain: bytes = interface_pb2.VariableMap(variables=of).SerializeToString()
    return plain


def field(number: int, value: bytes) -> bytes:
    """A field with a length, as protobuf writes it."""
    left, length = len(value), b""
    while left > 0x7F:
        left, length = left >> 7, length + bytes([left & 0x7F | 0x80])
    return bytes([number << 3 | 2]) + length + bytes([left]) + value


def deflate(plain: bytes) -> bytes:
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return deflate.compress(plain) + deflate.flush()


def text_of(plain: bytes) -> str:
    return base64.b85encode(deflate(plain)).decode()


@given(st.dictionaries(names, types, max_size=3))
def test_declared_types_survive_a_round_trip(declared: dict[str, Type]) -> None:
    assert load_types(dump_types(declared)) == declared


@given(st.dictionaries(names, types, max_size=3))
def test_the_text_needs_no_escapes_in_json(declared: dict[str, Type]) -> None:
    text = dump_types(declared)
    assert json.dumps(text) == f'"{text}"'


def test_no_types_take_no_room() -> None:
    assert dump_types({}) == ""
    assert load_types("") == {}


def test_loaded_types_are_for_reading_only() -> None:
    for text in ("", dump_types({"x": INTEGER})):
        with pytest.raises(TypeError):
            load_types(text)["y"] = INTEGER  # type: ignore[index]  # that is the point


def test_a_dataset_of_twenty_columns_takes_less_than_two_hundred_characters() -> None:
    columns = tuple(Column(f"some_column_{n}", INTEGER) for n in range(20))
    table = Type(Kind.STRUCTURED_DATASET, columns=columns, format="parquet")
    assert len(dump_types({"results": table})) < 200


def test_the_order_of_the_outputs_does_not_show() -> None:
    several = {name: Type(Kind.STRING, tag=name) for name in "abcdefgh"}
    text = dump_types(several)
    assert text == dump_types(dict(reversed(several.items())))
    plain = zlib.decompress(base64.b85decode(text), wbits=-zlib.MAX_WBITS)
    places = [plain.index(f"\x01{name}\x12".encode()) for name in several]
    assert places == sorted(places)


def test_the_text_of_this_release_is_read_for_ever() -> None:
    columns = (Column("a", INTEGER), Column("b", Type(Kind.DATETIME)))
    table = Type(Kind.STRUCTURED_DATASET, columns=columns, format="parquet")
    maybe = Type(Kind.UNION, (Type(Kind.FLOAT, tag="float"), Type(Kind.NONE, tag="none")))
    frozen = (
        "<I>_{FG?*g%_%7slIN0jlICLPVoVfb;$Q?Zl7I|WA@+jAqQcVD5"
        "-wFPmZJRfVj)>B=^#liZVsj>b}rVmoczQRE-ns+C^jyZy!^aW00"
    )
    assert load_types(frozen) == {"results": table, "rows": maybe}


def test_every_kind_is_told_from_every_other() -> None:
    of = {Kind.COLLECTION: (INTEGER,), Kind.MAP: (INTEGER,)}
    every = {kind.value: Type(kind, of.get(kind, ())) for kind in Kind}
    assert load_types(dump_types(every)) == every


def test_a_field_of_a_later_release_is_ignored() -> None:
    later = types_pb2.LiteralType.FromString(
        encode_type(INTEGER).SerializeToString() + b"\xa0\x7d\x01"
    )
    assert later != encode_type(INTEGER)
    assert load_types(text_of(variables(x=later))) == {"x": INTEGER}


@pytest.mark.parametrize(
    "plain",
    [
        b"{}",
        b"\x0a\xff",
        b'{"x":"i"}',
        variables(x=types_pb2.LiteralType()),
        variables(x=types_pb2.LiteralType(simple=99)),
        variables(x=types_pb2.LiteralType(collection_type={})),
        variables(x=types_pb2.LiteralType(schema={"columns": [{"name": "a", "type": 7}]})),
        variables(
            x=types_pb2.LiteralType(structured_dataset_type={"columns": [{"name": "without type"}]})
        ),
        variables(x=encode_type(INTEGER))[:-1],
    ],
)
def test_other_protobuf_is_refused(plain: bytes) -> None:
    with pytest.raises(ValueError, match="not a text of declared types"):
        load_types(text_of(plain))


def test_types_nested_beyond_what_protobuf_reads_are_refused() -> None:
    wire = encode_type(INTEGER).SerializeToString()
    for _ in range(4_000):
        wire = field(3, wire)  # a collection of it
    variable = field(1, wire)
    with pytest.raises(ValueError, match="not a text of declared types"):
        load_types(text_of(field(1, field(1, b"x") + field(2, variable))))


@given(st.text(min_size=1, max_size=40))
def test_garbage_is_refused(text: str) -> None:
    try:
        loaded = load_types(text)
    except ValueError:
        return
    assert dump_types(loaded) is not None  # by luck it was one


@given(st.binary(min_size=1, max_size=40))
def test_garbage_in_the_right_letters_is_refused(data: bytes) -> None:
    try:
        loaded = load_types(base64.b85encode(data).decode())
    except ValueError:
        return
    assert loaded == {}


def test_damaged_types_are_types_or_refused() -> None:
    whole = variables(x=encode_type(Type(Kind.UNION, (INTEGER, Type(Kind.BLOB, format="csv")))))
    for place in range(len(whole)):
        for byte in range(256):
            damaged = whole[:place] + bytes([byte]) + whole[place + 1 :]
            with contextlib.suppress(ValueError):
                load_types(text_of(damaged))


def test_a_text_with_a_tail_or_cut_off_is_refused() -> None:
    good = deflate(variables(x=encode_type(INTEGER)))
    assert load_types(base64.b85encode(good).decode()) == {"x": INTEGER}
    for bad in (good + b"1", good[:-3]):
        with pytest.raises(ValueError, match="not a text"):
            load_types(base64.b85encode(bad).decode())


def test_a_decompression_bomb_is_refused_before_it_unfolds() -> None:
    bomb = text_of(variables(x=encode_type(INTEGER)) * 5_000_000)
    assert len(bomb) < 200_000
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"more than {LIMIT} bytes"):
            load_types(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000  # of the 55 that it would be


def test_a_table_without_end_is_a_long_text_that_is_not_loaded() -> None:
    columns = tuple(Column(f"column {n}", INTEGER) for n in range(5_000))
    text = dump_types({"x": Type(Kind.STRUCTURED_DATASET, columns=columns)})
    assert len(text) > 5_000  # so whoever looks at its length drops the columns
    with pytest.raises(ValueError, match=f"more than {LIMIT} bytes"):
        load_types(text)
