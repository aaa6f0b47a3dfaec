"""Task files: readable ones, and those that SDKs serialize."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flyteidl.admin.task_pb2 import TaskSpec as TaskSpec1
from flyteidl.core.identifier_pb2 import TASK, Identifier
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl2.task.task_definition_pb2 import TaskSpec as TaskSpec2

from flyteagents._cli.task_file import BadTaskFile, TaskFile, read_task
from flyteagents._types import Kind, Type

ROOT = Path(__file__).parents[2]
WHOLE = """
task_type: duckdb_query
name: reports.monthly
sql: select 1
custom: {threads: 2, nested: {a: [1, null]}}
config: {Database: main, limit: 5}
inputs:
  month: integer
outputs:
  n: integer
values:
  month: 7
timeout: 10m
retries: 2
"""


def read(folder: Path, content: str | bytes, name: str = "task.yaml") -> TaskFile:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_task(file)


def test_a_readable_task_becomes_a_template(tmp_path: Path) -> None:
    task = read(tmp_path, WHOLE)
    template = task.task.template
    assert template.type == "duckdb_query"
    assert template.id.name == "reports.monthly"
    assert template.sql.statement == "select 1"
    assert template.custom["threads"] == 2
    assert dict(template.config) == {"Database": "main", "limit": "5"}
    assert template.interface.inputs.variables["month"].type.simple == 1
    assert template.metadata.timeout.ToTimedelta() == timedelta(minutes=10)
    assert (task.task.timeout, task.task.attempts) == (600.0, 3)
    assert task.inputs == {"month": Type(Kind.INTEGER)}
    assert task.outputs == {"n": Type(Kind.INTEGER)}
    assert task.values == {"month": 7}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("sql: select 1", "task_type"),
        ("- a\n- b", "task_type"),
        ("task_type: t\nsqll: x", "unknown key: sqll"),
        ("task_type: t\nnmae: x", "unknown key: nmae; did you mean name?"),
        (
            "task_type: t\ninputs: {a: integr}",
            "inputs: a: 'integr' is no type; did you mean integer?",
        ),
        ("task_type: t\ninputs: [a]", "inputs must map names"),
        ("task_type: t\nconfig: {1: 2}", "config has the name 1; write it in quotes"),
        ("task_type: t\ncustom: {1: 2}", "custom has the name 1; write it in quotes"),
        ("task_type: t\ntimeout: .inf", "timeout: "),
        ("task_type: t\ntimeout: .nan", "timeout: "),
        ("task_type: t\nvalues: {a: 1}", "values has a"),
        ("task_type: t\ntimeout: soon", "timeout"),
        ("task_type: t\nretries: many", "retries must be a whole number from 0 to 99"),
        ("task_type: t\nretries: -1", "and is -1"),
        ("task_type: t\nsql: [1, 2]", "sql must be a text, and is [1, 2]"),
        ("task_type: t\nname: 7", "name must be a text"),
        ("task_type: {", "line"),
        ("task_type: t\noutputs: {t: {type: schema, columns: {a: [integer]}}}", "column 'a'"),
    ],
)
def test_a_bad_file_says_what_to_mend(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(BadTaskFile) as refused:
        read(tmp_path, content)
    assert words in str(refused.value)
    assert "task.yaml" in str(refused.value)


def template() -> TaskTemplate:
    made = TaskTemplate(
        id=Identifier(
            resource_type=TASK, project="p", domain="d", name="flows.query", version="v1"
        ),
        type="duckdb_query",
    )
    made.metadata.retries.retries = 1
    made.interface.inputs.variables["month"].type.simple = 1
    made.interface.outputs.variables["n"].type.simple = 1
    made.sql.statement = "select 1"
    return made


def test_serialized_templates_and_specs_of_both_generations_are_told_apart(
    tmp_path: Path,
) -> None:
    described = TaskSpec1(template=template())
    described.description.short_description = "what it does"
    second: Any = TaskSpec2(short_name="query")
    second.task_template.ParseFromString(template().SerializeToString())
    parameter = second.default_inputs.add(name="month").parameter
    parameter.var.type.simple = 1
    parameter.default.scalar.primitive.integer = 7
    for message in (template(), TaskSpec1(template=template()), described, second):
        task = read(tmp_path, message.SerializeToString(), "task.pb")
        assert task.task.template == template(), type(message)
        assert task.inputs == {"month": Type(Kind.INTEGER)}
        assert task.task.attempts == 2
    assert task.values == {"month": 7}


def test_bytes_that_are_no_task_are_refused(tmp_path: Path) -> None:
    for content in (b"\xff\xfe\x00", b"", b"\x0a\x00"):
        with pytest.raises(BadTaskFile):
            read(tmp_path, content, "task.pb")


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_the_examples_are_tasks(path: Path) -> None:
    assert read_task(path).task.type
