"""A notebook's exit value as outputs."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from tests.databricks.driving import HOST, Driver, flyte_task
from tests.databricks.fake_databricks import FakeDatabricks
from tests.databricks.runs import Plan

from flyteagents import Blob, Phase, Status, StructuredDataset
from flyteagents.testing import Declared
from flyteagents_databricks.job import DatabricksJob

JOB = DatabricksJob(databricks_instance=HOST, run_id="77")
NOTEBOOK = {"tasks": [{"task_key": "one", "notebook_task": {"notebook_path": "/n"}}]}


async def left(
    databricks: FakeDatabricks,
    driver: Driver,
    exited: str | None,
    types: dict[str, Declared],
    *,
    truncated: bool = False,
) -> Status:
    """What a poll says of a notebook that has exited with a value."""
    databricks.add(77, Plan(exit=exited, truncated=truncated), NOTEBOOK)
    return await driver.get(JOB, declared=flyte_task(outputs=types).declared)


async def test_an_object_by_output_name_is_the_outputs(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    exited = {"n": 3, "name": "it's", "several": [1, 2], "more": 0, "when": "2024-01-02T03:04:05Z"}
    types: dict[str, Declared] = {"n": int, "name": str, "several": list[int], "when": datetime}
    status = await left(databricks, driver, json.dumps(exited), types)
    assert status.outputs == {
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
async def test_where_one_output_is_declared_the_whole_value_is_it(
    databricks: FakeDatabricks, driver: Driver, text: str, of: Any, value: object
) -> None:
    status = await left(databricks, driver, text, {"o0": of})
    assert (status.phase, status.outputs) == (Phase.SUCCEEDED, {"o0": value})


@pytest.mark.parametrize(
    ("text", "types", "words"),
    [
        (None, {"n": int}, "exited with no value"),
        ("three", {"n": int}, "not a integer"),
        ("2.5", {"n": int}, "not a integer"),
        ("true", {"n": int}, "not a integer"),
        ('{"n": 1}', {"n": int, "m": int}, "does not have all of m, n"),
        ("{", {"n": int, "m": int}, "does not have all of"),
        ('{"n": "x"}', {"n": bool}, "not a boolean"),
        ("9007199254740993.0", {"n": int}, "not a integer"),
        ("true", {"n": float}, "not a float"),
        ("false", {"n": timedelta}, "not a duration"),
        ('{"n": null, "m": 1}', {"n": str, "m": int}, "not a string"),
    ],
)
async def test_a_value_that_does_not_fit_is_a_failure_that_says_so(
    databricks: FakeDatabricks,
    driver: Driver,
    text: str | None,
    types: dict[str, Any],
    words: str,
) -> None:
    status = await left(databricks, driver, text, types)
    assert status.phase is Phase.FAILED
    assert words in str(status.message)


async def test_a_value_that_was_cut_off_is_no_output(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    status = await left(databricks, driver, "abc", {"text": str}, truncated=True)
    assert status.phase is Phase.FAILED
    assert "cut it off" in str(status.message)


async def test_nothing_declared_takes_nothing(databricks: FakeDatabricks, driver: Driver) -> None:
    status = await left(databricks, driver, "whatever", {})
    assert (status.phase, status.outputs) == (Phase.SUCCEEDED, {})
