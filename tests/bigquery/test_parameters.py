"""Inputs as query parameters, through Flyte's own literals."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import msgpack
import pytest
from flyteidl.core import literals_pb2
from google.protobuf import struct_pb2
from tests.bigquery.driving import CUSTOM, Driver

from flyteagents import Binary, Blob, InvalidTask, Kind, Schema, StructuredDataset, Type
from flyteagents._wire.literals import decode_literal
from flyteagents.testing import Declared
from flyteagents_bigquery.config import BigQueryConfig
from flyteagents_bigquery.parameters import query_parameters

NOON = datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
TOKYO = timezone(timedelta(hours=9))
INT, TEXT = {"type": "INT64"}, {"type": "STRING"}
ENUM = Type(Kind.ENUM, values=("red", "green"))


@pytest.fixture
def driver() -> Driver:
    return Driver("http://127.0.0.1:1")


def parameter(
    driver: Driver, value: object, declared: Declared | None = None, **config: object
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The type and the value of the one parameter."""
    interface = {} if declared is None else {"x": declared}
    task = driver.task("SELECT @x", {**CUSTOM, **config}, {"x": value}, interface)
    [one] = query_parameters(task.inputs, task.interface, task.config)
    assert one["name"] == "x"
    return one["parameterType"], one["parameterValue"]


@pytest.mark.parametrize(
    ("value", "declared", "kind", "text"),
    [
        (7, int, "INT64", "7"),
        (2**53 + 1, int, "INT64", "9007199254740993"),
        (0.1, float, "FLOAT64", "0.1"),
        (1e300, float, "FLOAT64", "1e+300"),
        (math.nan, float, "FLOAT64", "NaN"),
        (math.inf, float, "FLOAT64", "+inf"),
        (-math.inf, float, "FLOAT64", "-inf"),
        ("it's", str, "STRING", "it's"),
        ("", str, "STRING", ""),
        (True, bool, "BOOL", "true"),
        (False, bool, "BOOL", "false"),
        (NOON, datetime, "DATETIME", "2024-01-02T03:04:05.000006"),
        (NOON.astimezone(TOKYO), datetime, "DATETIME", "2024-01-02T03:04:05.000006"),
        (
            datetime(2024, 1, 2, tzinfo=timezone.utc),
            datetime,
            "DATETIME",
            "2024-01-02T00:00:00.000000",
        ),
        (timedelta(hours=1, seconds=5), timedelta, "INTERVAL", "0-0 0 1:0:5"),
        (timedelta(days=30, microseconds=7), timedelta, "INTERVAL", "0-0 0 720:0:0.000007"),
        (timedelta(seconds=-90.5), timedelta, "INTERVAL", "0-0 0 -0:1:30.500000"),
        ("green", ENUM, "STRING", "green"),
        (Binary(b"\x00\x01", "raw"), Type(Kind.BINARY), "BYTES", "AAE="),
        (Blob("s3://b/f"), Blob, "STRING", "s3://b/f"),
        (Blob("s3://b/d", multipart=True), Type(Kind.BLOB, multipart=True), "STRING", "s3://b/d"),
        (Schema("s3://b/s"), Schema, "STRING", "s3://b/s"),
        (StructuredDataset("s3://b/t"), StructuredDataset, "STRING", "s3://b/t"),
        (StructuredDataset("bq://p:d.t"), StructuredDataset, "STRING", "p.d.t"),
        (StructuredDataset("bq://x.com:p:d.t"), StructuredDataset, "STRING", "x.com:p.d.t"),
        ({"a": [1, None]}, Type(Kind.STRUCT), "JSON", '{"a":[1,null]}'),
        ({"a": 1, "b": 2}, dict[str, int], "JSON", '{"a":1,"b":2}'),
        ({"a": "ü"}, dict[str, str], "JSON", '{"a":"ü"}'),
    ],
)
def test_a_value_of_each_type_is_written_as_bigquery_reads_it(
    driver: Driver, value: object, declared: Declared, kind: str, text: str
) -> None:
    assert parameter(driver, value, declared) == ({"type": kind}, {"value": text})


@pytest.mark.parametrize(
    ("declared", "kind"),
    [(int | None, "INT64"), (str | None, "STRING"), (datetime | None, "DATETIME")],
)
def test_none_is_a_null_of_the_optional_type(driver: Driver, declared: Any, kind: str) -> None:
    assert parameter(driver, None, declared) == ({"type": kind}, {"value": None})


def test_a_union_has_the_type_of_its_value(driver: Driver) -> None:
    assert parameter(driver, 3, int | str) == (INT, {"value": "3"})
    assert parameter(driver, "3", int | str) == (TEXT, {"value": "3"})
    assert parameter(driver, True, int | bool) == ({"type": "BOOL"}, {"value": "true"})
    listed, _ = parameter(driver, [1], list[int] | None)
    assert listed == {"type": "ARRAY", "arrayType": INT}


@pytest.mark.parametrize(
    ("value", "declared", "element", "texts"),
    [
        ([1, 2], list[int], INT, ["1", "2"]),
        ([], list[int], INT, []),
        ([], list[str], TEXT, []),
        ([1, None], list[int | None], INT, ["1", None]),
        ([NOON], list[datetime], {"type": "DATETIME"}, ["2024-01-02T03:04:05.000006"]),
        (["red"], Type(Kind.COLLECTION, (ENUM,)), TEXT, ["red"]),
        ([{"a": 1}], list[dict[str, int]], {"type": "JSON"}, ['{"a":1}']),
        ([[1], [2]], list[list[int]], None, "[[1],[2]]"),
        ([1, "a"], list[int | str], {"type": "JSON"}, ["1", '"a"']),
    ],
)
def test_a_list_is_an_array(
    driver: Driver, value: object, declared: Declared, element: Any, texts: Any
) -> None:
    kind, found = parameter(driver, value, declared)
    if element is None:  # BigQuery has no arrays of arrays
        assert (kind, found) == ({"type": "JSON"}, {"value": texts})
    else:
        assert kind == {"type": "ARRAY", "arrayType": element}
        assert found == {"arrayValues": [{"value": text} for text in texts]}


def test_options_choose_other_types(driver: Driver) -> None:
    assert parameter(driver, NOON, datetime, datetimeParamType="TIMESTAMP") == (
        {"type": "TIMESTAMP"},
        {"value": "2024-01-02T03:04:05.000006+00:00"},
    )
    span = timedelta(seconds=1.5)
    assert parameter(driver, span, timedelta, durationParamType="INT64") == (
        INT,
        {"value": "1500000"},
    )


def test_a_dict_can_be_a_struct(driver: Driver) -> None:
    value = {"name": "a", "ok": True, "tags": ["x"], "inner": {"n": 0.5}, "none": None}
    kind, found = parameter(driver, value, Type(Kind.STRUCT), structParamType="STRUCT")
    types = {field["name"]: field["type"] for field in kind["structTypes"]}
    assert kind["type"] == "STRUCT"
    assert types == {
        "name": TEXT,
        "ok": {"type": "BOOL"},
        "tags": {"type": "ARRAY", "arrayType": TEXT},
        "inner": {"type": "STRUCT", "structTypes": [{"name": "n", "type": {"type": "FLOAT64"}}]},
        "none": TEXT,
    }
    assert found["structValues"]["inner"] == {"structValues": {"n": {"value": "0.5"}}}
    assert found["structValues"]["tags"] == {"arrayValues": [{"value": "x"}]}
    assert found["structValues"]["none"] == {"value": None}


@pytest.mark.parametrize(
    ("value", "asked", "text"),
    [
        (NOON, "TIMESTAMP", "2024-01-02T03:04:05.000006+00:00"),
        (NOON.replace(hour=0, minute=0, second=0, microsecond=0), "DATE", "2024-01-02"),
        (NOON, "TIME", "03:04:05.000006"),
        ("12.5", "NUMERIC", "12.5"),
        (3, "BIGNUMERIC", "3"),
        ("POINT(1 2)", "GEOGRAPHY", "POINT(1 2)"),
        (None, "DATE", None),
    ],
)
def test_a_parameter_that_the_config_declares_gives_the_input_its_type(
    driver: Driver, value: object, asked: str, text: str | None
) -> None:
    theirs = [
        {"name": "X", "parameterType": {"type": asked}, "parameterValue": {"value": None}},
        {"name": "fixed", "parameterType": INT, "parameterValue": {"value": "42"}},
    ]
    config = BigQueryConfig.model_validate({**CUSTOM, "queryParameters": theirs})
    assert query_parameters({"x": value}, {}, config) == [
        theirs[1],
        {"name": "x", "parameterType": {"type": asked}, "parameterValue": {"value": text}},
    ]


def test_configured_parameters_stay_without_inputs(driver: Driver) -> None:
    theirs = [{"parameterType": INT, "parameterValue": {"value": "1"}}]
    positional = {**CUSTOM, "queryParameters": theirs, "parameterMode": "POSITIONAL"}
    task = driver.task("SELECT ?", positional)
    assert query_parameters(task.inputs, task.interface, task.config) == theirs


@pytest.mark.parametrize(
    ("inputs", "config", "words"),
    [
        ({"x": 1}, {"parameterMode": "POSITIONAL"}, "positional"),
        ({"x": {"a": math.nan}}, {}, "'x'.*JSON"),
        (
            {"day": NOON},
            {"queryParameters": [{"name": "day", "parameterType": {"type": "DATE"}}]},
            "'day'.*time of day",
        ),
    ],
)
def test_what_cannot_be_a_parameter_is_named(
    inputs: dict[str, object], config: dict[str, object], words: str
) -> None:
    with pytest.raises(InvalidTask, match=words):
        query_parameters(inputs, {}, BigQueryConfig.model_validate({**CUSTOM, **config}))


@pytest.mark.parametrize(
    ("declared", "path"),
    [
        ({"type": "ARRAY"}, "parameterType.arrayType must be an object with a type"),
        ({"type": "ARRAY", "arrayType": "INT64"}, "parameterType.arrayType must be"),
        ({"type": "STRUCT"}, "parameterType.structTypes must be a list"),
        ({"type": "STRUCT", "structTypes": []}, "parameterType.structTypes must be a list"),
        ({"type": "STRUCT", "structTypes": [{"type": INT}]}, r"structTypes\[0\] has no name"),
        (
            {"type": "STRUCT", "structTypes": [{"name": "a", "type": INT}, {"name": "b"}]},
            r"structTypes\[1\].type must be",
        ),
        ({"type": "STRUCT", "structTypes": [7]}, r"structTypes\[0\] has no name"),
        (
            {"type": "ARRAY", "arrayType": {"type": "STRUCT"}},
            "arrayType.structTypes must be a list",
        ),
        ("INT64", "parameterType must be an object"),
        ({"kind": "INT64"}, "parameterType must be an object"),
    ],
)
@pytest.mark.parametrize("value", [[1], {"a": 1}, None])
def test_a_type_that_is_not_whole_is_named_by_its_path(
    driver: Driver, declared: object, path: str, value: object
) -> None:
    theirs = [{"name": "fixed"}, {"name": "X", "parameterType": declared}]
    config = BigQueryConfig.model_validate({**CUSTOM, "queryParameters": theirs})
    with pytest.raises(InvalidTask, match=r"queryParameters\[1\]\.") as raised:
        query_parameters({"x": value}, {}, config)
    assert re.search(path, raised.value.message)


def test_a_struct_that_the_config_declares_takes_its_parts_from_the_input() -> None:
    fields = [
        {"name": "n", "type": INT},
        {"name": "tags", "type": {"type": "ARRAY", "arrayType": TEXT}},
    ]
    declared = {"type": "STRUCT", "structTypes": fields}
    theirs = [{"name": "x", "parameterType": declared}]
    config = BigQueryConfig.model_validate({**CUSTOM, "queryParameters": theirs})
    [made] = query_parameters({"x": {"n": 3.0, "tags": ["a"]}}, {}, config)
    assert made["parameterType"] == declared
    assert made["parameterValue"]["structValues"] == {
        "n": {"value": "3"},
        "tags": {"arrayValues": [{"value": "a"}]},
    }


def test_a_whole_number_that_came_as_a_float_is_an_int64() -> None:
    config = BigQueryConfig.model_validate(CUSTOM)
    declared = {"x": Type(Kind.INTEGER)}
    [made] = query_parameters({"x": 10.0}, declared, config)
    assert (made["parameterType"], made["parameterValue"]) == (INT, {"value": "10"})
    [made] = query_parameters({"x": 2.5}, declared, config)
    assert made["parameterValue"] == {"value": "2.5"}  # BigQuery says what is wrong with it


def test_flytes_integers_have_64_bits(driver: Driver) -> None:
    for value in (2_000_000_000, 2**63 - 1, -(2**63)):
        assert parameter(driver, value, int) == (INT, {"value": str(value)})


@pytest.mark.parametrize("by", ["generic", "msgpack"])
def test_whole_numbers_in_a_struct_are_whole_in_its_json(driver: Driver, by: str) -> None:
    """flytekit before 1.14 sent a dict as a Struct, which knows no integers."""
    value: dict[str, Any] = {"limit": 10, "share": 0.5, "all": [1, 2.5]}
    scalar = literals_pb2.Scalar(binary={"value": msgpack.packb(value), "tag": "msgpack"})
    if by == "generic":
        struct = struct_pb2.Struct()
        struct.update(value)
        scalar = literals_pb2.Scalar(generic=struct)
    read = decode_literal(literals_pb2.Literal(scalar=scalar), None)
    config = BigQueryConfig.model_validate(CUSTOM)
    [made] = query_parameters({"x": read}, {"x": Type(Kind.STRUCT)}, config)
    assert made["parameterValue"] == {"value": '{"all":[1,2.5],"limit":10,"share":0.5}'}
