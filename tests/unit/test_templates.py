"""A task's template is read once, and nothing of one attempt gets into another."""

from __future__ import annotations

import sys
import tracemalloc
from copy import deepcopy
from typing import Any

import pytest
from flyteidl.admin import agent_pb2

from flyteagents._wire import templates as templates_module
from flyteagents._wire.messages import FLYTE1, TEMPLATES, create_request
from flyteagents._wire.templates import LONGEST, ONE, Templates, memory_of, read_template
from flyteagents.testing import task_template


def request(number: int, sql: str = "SELECT 1", **custom: object) -> bytes:
    task = task_template("acme", custom=custom, sql=sql, inputs={"n": number}, outputs={"o": int})
    message = agent_pb2.CreateTaskRequest(
        template=task.template, inputs=task.inputs, output_prefix=f"s3://b/{number}"
    )
    if not sql:
        message.template.container.env.add(key="A", value="1")
    message.task_execution_metadata.environment_variables["N"] = str(number)
    raw: bytes = message.SerializeToString()
    return raw


@pytest.fixture(autouse=True)
def _nothing_read() -> None:
    TEMPLATES.clear()


def test_attempts_of_one_task_have_what_is_theirs() -> None:
    one, two = (create_request(request(number), FLYTE1).read() for number in (1, 2))
    assert len(TEMPLATES) == 1
    assert [(each.inputs, each.output_prefix, each.environment) for each in (one, two)] == [
        ({"n": 1}, "s3://b/1", {"N": "1"}),
        ({"n": 2}, "s3://b/2", {"N": "2"}),
    ]
    assert one.statement == two.statement == "SELECT 1"
    assert one.interface == two.interface


def test_tasks_that_differ_are_read_each() -> None:
    one = create_request(request(1, script="a"), FLYTE1).read()
    two = create_request(request(1, script="b"), FLYTE1).read()
    assert (one.config, two.config) == ({"script": "a"}, {"script": "b"})


def test_what_an_agent_changes_in_a_task_is_not_in_the_next_one() -> None:
    raw = request(1, sql="", script="a", options={"parts": [{"n": 1}]})
    one, two = create_request(raw, FLYTE1).read(), create_request(raw, FLYTE1).read()
    untouched = deepcopy(two)
    assert one.container is not None
    one.config["script"] = "b"
    one.config["options"]["parts"][0]["n"] = 2
    one.config["options"]["parts"].append("of another tenant")
    mappings: list[Any] = [one.interface, one.declared, one.container.env]
    for mapping in mappings:
        mapping.clear()
    assert two == create_request(raw, FLYTE1).read() == untouched
    assert len(TEMPLATES) == 1


def test_a_template_is_read_once() -> None:
    raw = template(outputs=1)
    templates = Templates()
    assert templates.read(raw) is templates.read(raw)


def test_a_long_template_is_not_kept() -> None:
    sql = "x" * LONGEST
    assert create_request(request(1, sql), FLYTE1).read().statement == sql
    assert len(TEMPLATES) == 0


def test_one_that_is_small_on_the_wire_and_large_in_memory_is_not_kept() -> None:
    raw = template(outputs=1000)
    assert len(raw) <= LONGEST
    assert memory_of(read_template(raw)) > ONE
    templates = Templates()
    assert len(templates.read(raw).declared) == 1000
    assert len(templates) == 0


def test_what_is_too_large_is_not_counted_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = template(outputs=1000)
    counted: list[int] = []

    def count(value: object) -> int:
        counted.append(sys.getsizeof(value))
        return counted[-1]

    monkeypatch.setattr(templates_module, "getsizeof", count)
    memory_of(read_template(raw))
    whole = len(counted)
    assert sum(counted) > 2 * ONE

    counted.clear()
    Templates().read(raw)
    assert sum(counted[:-1]) <= ONE < sum(counted)
    assert len(counted) < whole / 2


def test_templates_are_bound_by_the_memory_that_they_take() -> None:
    raws = [template(outputs=20, number=number) for number in range(300)]
    most = 40 * memory_of((raws[0], read_template(raws[0])))
    templates = Templates(most)
    tracemalloc.start()
    try:
        for raw in raws:
            templates.read(raw)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 30 <= len(templates) <= 40
    assert taken < most
    # Those that were read last.
    assert templates.read(raws[-1]) is templates.read(raws[-1])
    assert len(templates) <= 40


def template(outputs: int, number: int = 0) -> bytes:
    declared = {f"o{each}": int for each in range(outputs)}
    task = task_template("acme", custom={"n": number}, inputs={}, outputs=declared)
    raw: bytes = task.template.SerializeToString(deterministic=True)
    return raw
