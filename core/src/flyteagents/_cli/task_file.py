"""The file that `flyteagents run` takes: readable YAML, or a serialized template of an SDK.

The three serialized forms (TaskTemplate, and TaskSpec of either generation) have no marker that
tells them apart; which one it is follows from which fields are there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from flyteidl.admin.task_pb2 import TaskSpec as TaskSpec1
from flyteidl.core import literals_pb2
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl2.task.task_definition_pb2 import TaskSpec as TaskSpec2
from google.protobuf.message import DecodeError

from flyteagents._cli.screen import did_you_mean
from flyteagents._cli.type_words import read_type
from flyteagents._client.attempt import FlyteTask
from flyteagents._client.templates import task_template
from flyteagents._errors import InvalidTask
from flyteagents._types import Type
from flyteagents._wire.literals import decode_literal
from flyteagents._wire.types import decode_variables

_KEYS = set(
    "task_type name sql custom config inputs outputs values timeout retries".split()  # noqa: SIM905
)
_RETRIES = 99
_SPAN = re.compile(
    r"(?:([\d.]+)d)?(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s?)?",
)


class BadTaskFile(Exception):
    """The file is no task; the text says what to mend."""


@dataclass(frozen=True)
class TaskFile:
    """A task to run, without inputs yet; its interface in plain types; values for its inputs."""

    task: FlyteTask
    inputs: Mapping[str, Type]
    outputs: Mapping[str, Type]
    values: Mapping[str, object] = field(default_factory=dict)


def read_task(path: Path) -> TaskFile:
    """Read a task file; `-` is standard input. Raises BadTaskFile."""
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise BadTaskFile(f"{path} cannot be read: {error.strerror}") from None
    try:
        if path.suffix.lower() in (".yaml", ".yml", ".json"):
            return _from_yaml(raw)
        return _from_protobuf(raw) or _from_yaml(raw)
    except (BadTaskFile, InvalidTask) as error:
        raise BadTaskFile(f"{path}: {error}") from None


def read_span(written: object) -> timedelta:
    """90, "90s", "5m", "1h30m" as a time span. Raises ValueError."""
    if isinstance(written, int | float) and not isinstance(written, bool):
        return timedelta(seconds=written)
    match = _SPAN.fullmatch(str(written).replace(" ", ""))
    if match is None or not any(match.groups()):
        raise ValueError(f"{written!r} is no time span; write seconds, or one as 1h30m")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def _from_yaml(raw: bytes) -> TaskFile:
    try:
        task = yaml.safe_load(raw)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f" (line {mark.line + 1}: {problem})" if mark else ""
        raise BadTaskFile(f"neither YAML{where} nor a serialized template") from None
    if not isinstance(task, dict) or not isinstance(task.get("task_type"), str):
        raise BadTaskFile("it needs the key task_type, such as `task_type: duckdb_query`")
    if unknown := set(task) - _KEYS:
        named = ", ".join(sorted(map(str, unknown)))
        near = did_you_mean(min(map(str, unknown)), _KEYS)
        raise BadTaskFile(f"unknown key: {named}{near or '.'} Keys are {', '.join(sorted(_KEYS))}")
    inputs, outputs = _types(task, "inputs"), _types(task, "outputs")
    values = _mapping(task, "values")
    if stray := set(values) - set(inputs):
        raise BadTaskFile(f"values has {', '.join(sorted(stray))}, which inputs does not declare")
    try:
        timeout = read_span(task.get("timeout") or 0)
    except (ValueError, OverflowError) as error:  # .inf
        raise BadTaskFile(f"timeout: {error}") from None
    made = task_template(
        task["task_type"],
        custom=_mapping(task, "custom"),
        config={name: str(value) for name, value in _mapping(task, "config").items()},
        sql=_text(task, "sql"),
        interface=inputs,
        outputs=outputs,
        timeout=timeout,
        retries=_retries(task.get("retries") or 0),
        name=_text(task, "name") or task["task_type"],
    )
    return TaskFile(made, inputs, outputs, values)


def _types(task: Mapping[str, Any], key: str) -> dict[str, Type]:
    types = {}
    for name, written in _mapping(task, key).items():
        try:
            types[str(name)] = read_type(written)
        except ValueError as error:
            raise BadTaskFile(f"{key}: {name}: {error}") from None
    return types


def _text(task: Mapping[str, Any], key: str) -> str:
    value = task.get(key) or ""
    if not isinstance(value, str):
        raise BadTaskFile(f"{key} must be a text, and is {value!r}")
    return value


def _retries(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _RETRIES:
        raise BadTaskFile(f"retries must be a whole number from 0 to {_RETRIES}, and is {value!r}")
    return value


def _mapping(task: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = task.get(key) or {}
    if not isinstance(value, dict):
        raise BadTaskFile(f"{key} must map names to values")
    if strays := [name for name in value if not isinstance(name, str)]:
        raise BadTaskFile(f"{key} has the name {strays[0]!r}; write it in quotes to make it a text")
    return value


def _from_protobuf(raw: bytes) -> TaskFile | None:
    """A serialized template or spec of either generation; None when it is none of them."""
    if spec := _parsed(TaskSpec2, raw):
        inner, defaults = spec.task_template, spec.default_inputs
        # A template alone parses as a spec too, but has no name where a spec has one.
        if inner.type and inner.id.name:
            template = TaskTemplate.FromString(inner.SerializeToString())
            values = {
                each.name: _default(each.parameter)
                for each in defaults
                if each.parameter.HasField("default")
            }
            return _declared(template, values)
    if (spec := _parsed(TaskSpec1, raw)) and spec.template.type and spec.template.id.name:
        return _declared(spec.template, {})
    template = _parsed(TaskTemplate, raw)
    if template is not None and template.type and template.HasField("interface"):
        return _declared(template, {})
    return None


def _declared(template: TaskTemplate, values: Mapping[str, object]) -> TaskFile:
    inputs = decode_variables(template.interface.inputs)
    outputs = decode_variables(template.interface.outputs)
    return TaskFile(FlyteTask(template), inputs, outputs, values)


def _default(parameter: Any) -> object:
    return decode_literal(literals_pb2.Literal.FromString(parameter.default.SerializeToString()))


def _parsed(message: Any, raw: bytes) -> Any:
    try:
        return message.FromString(raw)
    except DecodeError:
        return None
