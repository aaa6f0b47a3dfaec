from __future__ import annotations

import base64
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyteagents import Column, Kind, Type
from flyteagents._kernel.declared import LIMIT, dump_types, load_types

names = st.text(max_size=6)
types = st.recursive(
    st.builds(
        Type,
        st.sampled_from(Kind),
        values=st.lists(names, max_size=2).map(tuple),
        format=names,
        multipart=st.booleans(),
        tag=names,
    ),
    lambda inner: st.builds(
        Type,
        st.sampled_from(Kind),
        of=st.lists(inner, max_size=2).map(tuple),
        columns=st.lists(st.builds(Column, names, inner), max_size=2).map(tuple),
    ),
    max_leaves=5,
)


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


def test_a_dataset_of_twenty_columns_takes_less_than_two_hundred_characters() -> None:
    columns = tuple(Column(f"some_column_{n}", Type(Kind.INTEGER)) for n in range(20))
    table = Type(Kind.STRUCTURED_DATASET, columns=columns, format="parquet")
    assert len(dump_types({"results": table})) < 200


def test_the_order_of_the_outputs_does_not_show() -> None:
    one, other = Type(Kind.INTEGER), Type(Kind.STRING)
    assert dump_types({"a": one, "b": other}) == dump_types({"b": other, "a": one})


def test_the_text_of_this_release_is_read_for_ever() -> None:
    columns = (Column("a", Type(Kind.INTEGER)), Column("b", Type(Kind.DATETIME)))
    table = Type(Kind.STRUCTURED_DATASET, columns=columns, format="parquet")
    maybe = Type(Kind.UNION, (Type(Kind.FLOAT, tag="float"), Type(Kind.NONE, tag="none")))
    frozen = (
        "J&QXIfFKYB@AB$B0kv1KB3qz=#7IE-#DZ{lS20%albMEObM+-dHSAEBKv<!)hLN^`Nn?>#"
        "z)WyL944LB7IZ?2*DuZjMG?nxuOjKAdC>8O?+r0nbng8I"
    )
    assert load_types(frozen) == {"results": table, "rows": maybe}


def test_every_kind_has_a_letter_of_its_own() -> None:
    every = {kind.value: Type(kind) for kind in Kind}
    assert load_types(dump_types(every)) == every


def test_a_field_of_a_later_release_is_ignored() -> None:
    assert load_types(text_of(b'{"x":{"k":"i","z":1}}')) == {"x": Type(Kind.INTEGER)}


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"[]",
        b"{",
        b'{"x":1}',
        b'{"x":"?"}',
        b'{"x":{}}',
        b'{"x":{"k":[]}}',
        b'{"x":{"k":"L","o":"i"}}',
        b'{"x":{"k":"e","v":[1]}}',
        b'{"x":{"k":"D","c":[["a"]]}}',
        b'{"x":{"k":"D","c":[[1,"i"]]}}',
        b'{"x":{"k":"D","f":1}}',
        b'{"x":' + b"[" * 60_000,
        b'{"x":' + b'{"k":"L","o":[' * 4_000 + b'"i"' + b"]}" * 4_000 + b"}",
    ],
)
def test_other_json_is_refused(plain: bytes) -> None:
    with pytest.raises(ValueError, match="not a text of declared types"):
        load_types(text_of(plain))


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


def test_a_text_with_a_tail_or_cut_off_is_refused() -> None:
    good = deflate(b'{"x":"i"}')
    assert load_types(base64.b85encode(good).decode()) == {"x": Type(Kind.INTEGER)}
    for bad in (good + b"1", good[:-3]):
        with pytest.raises(ValueError, match="not a text"):
            load_types(base64.b85encode(bad).decode())


def test_a_decompression_bomb_is_refused_before_it_unfolds() -> None:
    bomb = text_of(b'{"x":"i"' + b" " * 50_000_000 + b"}")
    assert len(bomb) < 100_000
    with pytest.raises(ValueError, match=f"more than {LIMIT} bytes"):
        load_types(bomb)


def test_a_table_without_end_is_a_long_text_that_is_not_loaded() -> None:
    columns = tuple(Column(f"column {n}", Type(Kind.INTEGER)) for n in range(5_000))
    text = dump_types({"x": Type(Kind.STRUCTURED_DATASET, columns=columns)})
    assert len(text) > 5_000  # so whoever looks at its length drops the columns
    with pytest.raises(ValueError, match=f"more than {LIMIT} bytes"):
        load_types(text)
