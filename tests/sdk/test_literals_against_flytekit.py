"""Our literals beside flytekit's own type engine, both ways."""

from __future__ import annotations

import base64
import json
import math
from datetime import datetime, timedelta, timezone

import pytest
from flyteidl.core import literals_pb2, types_pb2
from tests.sdk.environments import run_script

from flyteagents import Blob, Column, Kind, Schema, StructuredDataset, Type
from flyteagents._wire.literals import decode_literal, encode_literal
from flyteagents._wire.types import decode_type, encode_type

NOON = datetime(2024, 1, 2, 12, 30, 15, 123456, tzinfo=timezone.utc)
FILE, POINT = Blob("s3://bucket/file"), {"x": 1, "y": 2.0, "label": "a"}


def columns(**kinds: Kind) -> tuple[Column, ...]:
    return tuple(Column(name, Type(kind)) for name, kind in kinds.items())


TABLE = columns(n=Kind.INTEGER, s=Kind.STRING, t=Kind.DATETIME, d=Kind.DURATION)
SCHEMA = columns(
    n=Kind.INTEGER,
    x=Kind.FLOAT,
    s=Kind.STRING,
    t=Kind.DATETIME,
    b=Kind.BOOLEAN,
    d=Kind.DURATION,
)

# What the cases of flytekit_literals.py are to an agent.
EXPECTED: dict[str, object] = {
    "int": 7,
    "int negative": -(2**63),
    "int largest": 2**63 - 1,
    "float": 0.1,
    "float whole": 3.0,
    "float nan": math.nan,
    "float inf": -math.inf,
    "str": "héllo ☃",
    "str empty": "",
    "bool": True,
    "bool false": False,
    "none": None,
    "datetime": NOON,
    "datetime other zone": NOON,
    "datetime before 1970": datetime(1901, 1, 1, 0, 0, 0, 1, tzinfo=timezone.utc),
    "date": datetime(2024, 2, 29, tzinfo=timezone.utc),
    "timedelta": timedelta(days=2, microseconds=5),
    "timedelta negative": timedelta(seconds=-1.5),
    "list of int": [1, 2, 3],
    "list empty": [],
    "list of lists": [["a"], [], ["b", "c"]],
    "list of optional": [1, None],
    "list of datetime": [NOON],
    "map of int": {"a": 1, "b": 2},
    "map empty": {},
    "map of lists": {"a": [1.0, 2.5]},
    "map of maps": {"a": {"b": True}},
    "dict": {"a": 1, "b": [True, None, {"c": 2.5}], "d": 2.0},
    "dict with int keys": {1: "a", 2: "b"},
    "list of dicts": [{"a": 1}, {}],
    "dataclass": POINT,
    "dataclass nested": {
        "points": [POINT, {"x": 3, "y": 4.5, "label": ""}],
        "when": NOON.isoformat(),
        "color": "green",
        "length": 90.0,
        "maybe": None,
    },
    "list of dataclasses": [POINT, {"x": 3, "y": 4.5, "label": ""}],
    "optional set": 7,
    "optional none": None,
    "optional list": [1],
    "optional dataclass": {"x": 1, "y": 2.0, "label": ""},
    "optional file": FILE,
    "union int": 1,
    "union float": 1.0,
    "union str": "1",
    "union bool": True,
    "union time": NOON,
    "union list": [1],
    "union table": StructuredDataset("bq://p:d.t"),
    "enum": "green",
    "text literal": "b",
    "file": FILE,
    "file csv": Blob("s3://bucket/file", "csv"),
    "list of files": [FILE],
    "directory": Blob("s3://bucket/directory", multipart=True),
    "directory csv": Blob("s3://bucket/directory", "csv", multipart=True),
    "table": StructuredDataset("bq://p:d.t"),
    "table columns": StructuredDataset("bq://p:d.t", TABLE),
    "table parquet": StructuredDataset("s3://bucket/t", columns(n=Kind.INTEGER), "parquet"),
    "schema": Schema("s3://bucket/s", SCHEMA),
    "old dict": {"a": 1, "b": [True, None, {"c": 2.5}]},
    "old dataclass": {"x": 5, "y": 6, "label": "old"},
}
# What an agent returns where it is not what it was given: whole numbers of a Struct are integers.
RETURNED = EXPECTED | {
    "old dict": {"a": 1, "b": [True, None, {"c": 2.5}]},
    "old dataclass": {"x": 5, "y": 6.0, "label": "old"},
    # Columns and format are for the declared type to add.
    "table columns": StructuredDataset("bq://p:d.t"),
    "table parquet": StructuredDataset("s3://bucket/t"),
    "directory csv": Blob("s3://bucket/directory"),
}
# Same meaning, other bytes: flytekit wrote a Struct, and we write msgpack.
OTHER_BYTES = {"old dict", "old dataclass"}

Case = tuple[types_pb2.LiteralType, literals_pb2.Literal]


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    lines = run_script("flytekit", "flytekit_literals.py", "emit")
    return {
        line["name"]: (
            types_pb2.LiteralType.FromString(base64.b64decode(line["type"])),
            literals_pb2.Literal.FromString(base64.b64decode(line["literal"])),
        )
        for line in lines
    }


def same(one: object, other: object) -> bool:
    """Equal, also in the types of all parts; NaN is NaN."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (one == other or repr(one) == repr(other) == "nan")


def test_every_case_has_an_expected_value(cases: dict[str, Case]) -> None:
    assert cases.keys() == EXPECTED.keys() == RETURNED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_what_flytekit_writes_is_read(cases: dict[str, Case], name: str) -> None:
    literal_type, literal = cases[name]
    value = decode_literal(literal, decode_type(literal_type))
    assert same(value, EXPECTED[name]), value


@pytest.mark.parametrize("name", EXPECTED)
def test_the_type_is_not_needed_to_read(cases: dict[str, Case], name: str) -> None:
    value = decode_literal(cases[name][1])
    assert same(value, EXPECTED[name]), value


@pytest.mark.parametrize("name", [name for name in EXPECTED if name not in OTHER_BYTES])
def test_the_same_literal_is_written(cases: dict[str, Case], name: str) -> None:
    literal_type, literal = cases[name]
    ours = encode_literal(RETURNED[name], decode_type(literal_type))
    theirs = literals_pb2.Literal()
    theirs.CopyFrom(literal)
    if theirs.scalar.HasField("union"):  # what our types do not keep, and readers do not need
        theirs.scalar.union.type.ClearField("metadata")
        theirs.scalar.union.type.ClearField("annotation")
        theirs.scalar.union.type.structure.ClearField("dataclass_type")
    assert ours == theirs


def test_flytekit_reads_what_we_write(cases: dict[str, Case]) -> None:
    lines = [
        json.dumps({"name": name, "literal": base64.b64encode(ours.SerializeToString()).decode()})
        for name, (literal_type, _) in cases.items()
        for ours in [encode_literal(RETURNED[name], decode_type(literal_type))]
    ]
    answers = run_script("flytekit", "flytekit_literals.py", "read", stdin="\n".join(lines))
    wrong = [answer for answer in answers if not answer["same"]]
    assert wrong == []
    assert len(answers) == len(cases)


def test_types_are_flytekit_s_but_for_what_sdks_attach(cases: dict[str, Case]) -> None:
    compared = 0
    for literal_type, _ in cases.values():
        ours, theirs = encode_type(decode_type(literal_type)), types_pb2.LiteralType()
        theirs.CopyFrom(literal_type)
        for attached in ("metadata", "annotation", "structure"):
            theirs.ClearField(attached)
        assert decode_type(ours) == decode_type(literal_type)
        if theirs.WhichOneof("type") not in ("union_type", "collection_type", "map_value_type"):
            assert ours == theirs
            compared += 1
    assert compared > 20
