"""Types as task files write them, and inputs by their types."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from flyteagents._cli.input_values import BadInput, input_literals
from flyteagents._cli.task_file import read_span
from flyteagents._cli.type_words import in_words, read_type
from flyteagents._types import Column, Kind, Type
from flyteagents._values import Blob, Schema, StructuredDataset
from flyteagents._wire.literals import decode_literals

INTEGER, STRING = Type(Kind.INTEGER), Type(Kind.STRING)
TYPES: list[tuple[Any, Type, str]] = [
    ("integer", INTEGER, "integer"),
    ("bool", Type(Kind.BOOLEAN), "boolean"),
    (["integer"], Type(Kind.COLLECTION, (INTEGER,)), "[integer]"),
    (
        {"string": ["integer"]},
        Type(Kind.MAP, (Type(Kind.COLLECTION, (INTEGER,)),)),
        "{string: [integer]}",
    ),
    ("integer?", Type(Kind.UNION, (INTEGER, Type(Kind.NONE))), "integer?"),
    ({"enum": ["a", "b"]}, Type(Kind.ENUM, values=("a", "b")), "enum of a, b"),
    ("file", Type(Kind.BLOB), "file"),
    ({"file": "csv"}, Type(Kind.BLOB, format="csv"), "file (csv)"),
    ("directory", Type(Kind.BLOB, multipart=True), "directory"),
    (
        {"columns": {"a": "integer"}, "format": "parquet"},
        Type(Kind.STRUCTURED_DATASET, columns=(Column("a", INTEGER),), format="parquet"),
        "structured_dataset (a: integer, format parquet)",
    ),
    (
        {"type": "schema", "columns": {"a": "string"}},
        Type(Kind.SCHEMA, columns=(Column("a", STRING),)),
        "schema (a: string)",
    ),
]


@pytest.mark.parametrize(("written", "declared", "words"), TYPES)
def test_a_type_is_read_and_said(written: Any, declared: Type, words: str) -> None:
    assert read_type(written) == declared
    assert in_words(declared) == words


@pytest.mark.parametrize("written", ["xyz", 7, [], ["a", "b"], {}, {"int": "string"}, None])
def test_what_is_no_type_is_told_the_forms_there_are(written: Any) -> None:
    with pytest.raises(ValueError, match=r"is no type; a type is one of .*integer.*type\?"):
        read_type(written)


def given(written: Any, text: str, local: bool = False) -> object:
    """What a task gets for `--input x=<text>` where `x` has this type."""
    interface = {"x": read_type(written)}
    raw = input_literals(interface, {}, [f"x={text}"], local)
    return decode_literals(raw, interface)["x"]


@pytest.mark.parametrize(
    ("written", "text", "value"),
    [
        ("integer", "-7", -7),
        ("float", "7", 7.0),
        ("float", "1e3", 1000.0),
        ("string", "7", "7"),
        ("string", "a=b", "a=b"),
        ("string", "", ""),
        ("boolean", "True", True),
        ("datetime", "2024-02-29", datetime(2024, 2, 29, tzinfo=timezone.utc)),
        ("datetime", "2024-02-29T12:00:00Z", datetime(2024, 2, 29, 12, tzinfo=timezone.utc)),
        ("duration", "1h30m", timedelta(minutes=90)),
        ("duration", "0.5", timedelta(milliseconds=500)),
        (["integer"], "[1, 2]", [1, 2]),
        (["string"], "[]", []),
        ({"string": "float"}, '{"a": 1}', {"a": 1.0}),
        ("struct", '{"a": [1, null]}', {"a": [1, None]}),
        ("integer?", "7", 7),
        ("integer?", "null", None),
        ("string?", "null", None),
        ({"enum": ["red", "blue"]}, "red", "red"),
        ("file", "s3://b/f.csv", Blob("s3://b/f.csv")),
        ("schema", "s3://b/t", Schema("s3://b/t")),
        ("structured_dataset", "s3://b/t.csv", StructuredDataset("s3://b/t.csv", format="csv")),
        ({"format": "parquet"}, "s3://b/t", StructuredDataset("s3://b/t", format="parquet")),
    ],
)
def test_an_input_becomes_a_value_of_its_type(written: Any, text: str, value: object) -> None:
    assert given(written, text) == value


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("integer", "7.5"),
        ("integer", "seven"),
        ("integer", "99999999999999999999"),
        ("boolean", "yes"),
        ("datetime", "today"),
        ("duration", "soon"),
        (["integer"], "1"),
        (["integer"], "[a]"),
        (["integer"], "["),
        ({"string": "integer"}, "[1]"),
        ({"enum": ["red", "blue"]}, "green"),
        ("file", ""),
        ("integer?", "x"),
    ],
)
def test_an_input_that_does_not_fit_names_itself_and_its_type(written: Any, text: str) -> None:
    with pytest.raises(BadInput) as refused:
        given(written, text)
    assert str(refused.value).startswith(f"input x takes {in_words(read_type(written))}: ")


def test_a_file_of_this_machine_must_be_there_and_gets_its_whole_path(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    with pytest.raises(BadInput, match="no such file"):
        given("structured_dataset", str(file), local=True)
    file.touch()
    made = given("structured_dataset", str(file), local=True)
    assert made == StructuredDataset(str(file), format="parquet")


def test_given_values_win_and_missing_ones_are_named_with_their_types() -> None:
    interface = {"a": INTEGER, "b": Type(Kind.COLLECTION, (STRING,))}
    with pytest.raises(BadInput, match=r"--input b=<\[string\]>"):
        input_literals(interface, {"a": 1}, [])
    raw = input_literals(interface, {"a": 1, "b": ["x"]}, ["a=2"])
    decoded = decode_literals(raw, interface)
    assert decoded == {"a": 2, "b": ["x"]}


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(90, 90), ("90", 90), ("90s", 90), ("5m", 300), ("1h 30m", 5400), ("1d", 86400)],
)
def test_a_time_span_is_read(written: object, seconds: float) -> None:
    assert read_span(written).total_seconds() == seconds


@pytest.mark.parametrize("written", ["", "5 apples", "1m1h", "1.2.3s", True, None])
def test_what_is_no_time_span_is_refused(written: object) -> None:
    with pytest.raises(ValueError):
        read_span(written)
