"""A notebook's exit value as outputs."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flyteagents import Blob, InvalidTask, Kind, StructuredDataset, Type
from flyteagents._client.templates import declared
from flyteagents_databricks.outputs import notebook_outputs
from flyteagents_databricks.run import NotebookOutput


def outputs(result: str | None, types: dict[str, Any], truncated: bool = False) -> Any:
    left = NotebookOutput(result=result, truncated=truncated)
    return notebook_outputs(left, {name: declared(of) for name, of in types.items()})


def test_an_object_by_output_name_is_the_outputs() -> None:
    left = {"n": 3, "name": "it's", "several": [1, 2], "more": 0, "when": "2024-01-02T03:04:05Z"}
    text = json.dumps(left)
    types = {"n": int, "name": str, "several": list[int], "when": datetime}
    assert outputs(text, types) == {
        "n": 3,
        "name": "it's",
        "several": [1, 2],
        "when": datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    }


@pytest.mark.parametrize(
    ("text", "of", "value"),
    [
        ("hello", str, "hello"),
        ('{"a": 1}', str, '{"a": 1}'),
        ("3", str, "3"),
        ("3", int, 3),
        ("3.0", int, 3),
        ("0.5", float, 0.5),
        ("true", bool, True),
        ('{"a": 1}', dict, {"a": 1}),
        ('{"a": 1}', dict[str, int], {"a": 1}),
        ("90", timedelta, timedelta(seconds=90)),
        ("s3://b/x", Blob, Blob("s3://b/x")),
        ("s3://b/x", StructuredDataset, StructuredDataset("s3://b/x")),
        ("null", int | None, None),
        ("7", int | str, 7),
        ("seven", int | str, "seven"),
    ],
)
def test_where_one_output_is_declared_the_whole_value_is_it(
    text: str, of: Any, value: object
) -> None:
    assert outputs(text, {"o0": of}) == {"o0": value}


@pytest.mark.parametrize(
    ("text", "types", "words"),
    [
        (None, {"n": int}, "exited with no value"),
        ("three", {"n": int}, "not a integer"),
        ("2.5", {"n": int}, "not a integer"),
        ("true", {"n": int}, "not a integer"),
        ('{"n": 1}', {"n": int, "m": int}, "does not have all of n, m"),
        ("{", {"n": int, "m": int}, "does not have all of"),
        ('{"n": "x"}', {"n": bool}, "not a boolean"),
    ],
)
def test_a_value_that_does_not_fit_says_so(
    text: str | None, types: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidTask, match=words):
        outputs(text, types)


def test_a_value_that_was_cut_off_is_no_output() -> None:
    with pytest.raises(InvalidTask, match="cut it off"):
        outputs("abc", {"text": str}, truncated=True)


def test_nothing_declared_takes_nothing() -> None:
    assert outputs("whatever", {}) == {}
    assert Type(Kind.NONE) == declared(type(None))
