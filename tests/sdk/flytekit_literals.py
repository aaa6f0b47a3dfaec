"""What flytekit's type engine makes of Python values, and what it reads in literals of ours.

Runs in flytekit's environment, as a script. `emit` prints a JSON line for each case: name, and
in base64 its LiteralType and Literal. `read` takes such lines with other literals on standard
input, and says for each whether flytekit reads the value of the case in it.
"""

# ruff: noqa: UP007, UP045  (unions as most tasks write them)
# mypy: disable-error-code="import-not-found, import-untyped, misc, type-arg, unused-ignore"
from __future__ import annotations

import base64
import dataclasses
import enum
import json
import math
import os
import sys
import typing
from datetime import date, datetime, timedelta, timezone

from flyteidl.core import literals_pb2
from flytekit import FlyteContextManager, kwtypes
from flytekit.core.type_engine import TypeEngine
from flytekit.models.literals import Literal
from flytekit.types.directory import FlyteDirectory
from flytekit.types.file import FlyteFile
from flytekit.types.schema import FlyteSchema, SchemaOpenMode
from flytekit.types.structured import StructuredDataset


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


@dataclasses.dataclass
class Point:
    x: int
    y: float
    label: str = ""


@dataclasses.dataclass
class Line:
    points: list[Point]
    when: datetime
    color: Color
    length: timedelta
    maybe: typing.Optional[int] = None


NOON = datetime(2024, 1, 2, 12, 30, 15, 123456, tzinfo=timezone.utc)
LINE = Line([Point(1, 2.0, "a"), Point(3, 4.5)], NOON, Color.GREEN, timedelta(seconds=90))
Columns = typing.Annotated[StructuredDataset, kwtypes(n=int, s=str, t=datetime, d=timedelta)]
Parquet = typing.Annotated[StructuredDataset, kwtypes(n=int), "parquet"]
Table = FlyteSchema[kwtypes(n=int, x=float, s=str, t=datetime, b=bool, d=timedelta)]
File, Directory = FlyteFile("s3://bucket/file"), FlyteDirectory("s3://bucket/directory")

CASES: dict[str, tuple[typing.Any, typing.Any]] = {
    "int": (int, 7),
    "int negative": (int, -(2**63)),
    "int largest": (int, 2**63 - 1),
    "float": (float, 0.1),
    "float whole": (float, 3.0),
    "float nan": (float, math.nan),
    "float inf": (float, -math.inf),
    "str": (str, "héllo ☃"),
    "str empty": (str, ""),
    "bool": (bool, True),
    "bool false": (bool, False),
    "none": (type(None), None),
    "datetime": (datetime, NOON),
    "datetime other zone": (datetime, NOON.astimezone(timezone(timedelta(hours=5)))),
    "datetime before 1970": (datetime, datetime(1901, 1, 1, 0, 0, 0, 1, tzinfo=timezone.utc)),
    "date": (date, date(2024, 2, 29)),
    "timedelta": (timedelta, timedelta(days=2, microseconds=5)),
    "timedelta negative": (timedelta, timedelta(seconds=-1.5)),
    "list of int": (list[int], [1, 2, 3]),
    "list empty": (list[int], []),
    "list of lists": (list[list[str]], [["a"], [], ["b", "c"]]),
    "list of optional": (list[typing.Optional[int]], [1, None]),
    "list of datetime": (list[datetime], [NOON]),
    "map of int": (dict[str, int], {"a": 1, "b": 2}),
    "map empty": (dict[str, int], {}),
    "map of lists": (dict[str, list[float]], {"a": [1.0, 2.5]}),
    "map of maps": (dict[str, dict[str, bool]], {"a": {"b": True}}),
    "dict": (dict, {"a": 1, "b": [True, None, {"c": 2.5}], "d": 2.0}),
    "dict with int keys": (dict[int, str], {1: "a", 2: "b"}),
    "list of dicts": (list[dict], [{"a": 1}, {}]),
    "dataclass": (Point, Point(1, 2.0, "a")),
    "dataclass nested": (Line, LINE),
    "list of dataclasses": (list[Point], LINE.points),
    "optional set": (typing.Optional[int], 7),
    "optional none": (typing.Optional[int], None),
    "optional list": (typing.Optional[list[int]], [1]),
    "optional dataclass": (typing.Optional[Point], Point(1, 2.0)),
    "optional file": (typing.Optional[FlyteFile], File),
    "union int": (typing.Union[int, float, str], 1),
    "union float": (typing.Union[int, float, str], 1.0),
    "union str": (typing.Union[int, float, str], "1"),
    "union bool": (typing.Union[bool, str], True),
    "union time": (typing.Union[datetime, timedelta], NOON),
    "union list": (typing.Union[int, list[int]], [1]),
    "union table": (typing.Optional[StructuredDataset], StructuredDataset(uri="bq://p:d.t")),
    "enum": (Color, Color.GREEN),
    "text literal": (typing.Literal["a", "b"], "b"),
    "file": (FlyteFile, File),
    "file csv": (FlyteFile["csv"], FlyteFile["csv"]("s3://bucket/file")),
    "list of files": (list[FlyteFile], [File]),
    "directory": (FlyteDirectory, Directory),
    "directory csv": (FlyteDirectory["csv"], FlyteDirectory["csv"]("s3://bucket/directory")),
    "table": (StructuredDataset, StructuredDataset(uri="bq://p:d.t")),
    "table columns": (Columns, StructuredDataset(uri="bq://p:d.t")),
    "table parquet": (Parquet, StructuredDataset(uri="s3://bucket/t", file_format="parquet")),
    "schema": (Table, Table(remote_path="s3://bucket/s", supported_mode=SchemaOpenMode.READ)),
    # flytekit before 1.14 wrote a Struct where it now writes msgpack.
    "old dict": (dict, {"a": 1, "b": [True, None, {"c": 2.5}]}),
    "old dataclass": (Point, Point(5, 6.0, "old")),  # a new value: flytekit caches literals
}


def emit(name: str) -> dict[str, str]:
    kind, value = CASES[name]
    os.environ["FLYTE_USE_OLD_DC_FORMAT"] = str(name.startswith("old ")).lower()
    context = FlyteContextManager.current_context()
    literal_type = TypeEngine.to_literal_type(kind)
    literal = TypeEngine.to_literal(context, value, kind, literal_type)
    return {
        "name": name,
        "type": encode(literal_type.to_flyte_idl()),
        "literal": encode(literal.to_flyte_idl()),
    }


def encode(message: typing.Any) -> str:
    return base64.b64encode(message.SerializeToString()).decode()


def read(line: dict[str, str]) -> dict[str, object]:
    kind, value = CASES[line["name"]]
    message = literals_pb2.Literal.FromString(base64.b64decode(line["literal"]))
    literal = Literal.from_flyte_idl(message)
    try:
        got = TypeEngine.to_python_value(FlyteContextManager.current_context(), literal, kind)
    except Exception as error:  # noqa: BLE001  whatever it is, the test shows it
        return {"name": line["name"], "same": False, "got": repr(error)}
    return {"name": line["name"], "same": plain(got) == plain(value), "got": repr(got)}


def plain(value: typing.Any) -> object:
    """Something that is equal when the values mean the same."""
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, FlyteFile | FlyteDirectory):
        return type(value).__name__, value.extension(), value.remote_source or value.path
    if isinstance(value, StructuredDataset):
        return "table", value.literal.uri if value.literal else value.uri
    if isinstance(value, FlyteSchema):
        return "schema", value.remote_path
    if isinstance(value, list):
        return [plain(item) for item in value]
    return type(value), value


if __name__ == "__main__":
    if sys.argv[1] == "emit":
        lines = [emit(name) for name in CASES]
    else:
        lines = [read(json.loads(line)) for line in sys.stdin]
    print("\n".join(map(json.dumps, lines)))
