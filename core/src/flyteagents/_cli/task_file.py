"""The file that `flyteagents run` takes: readable YAML, or a serialized template of an SDK."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from flyteidl.admin.task_pb2 import TaskSpec as TaskSpec1
from flyteidl.core import identifier_pb2, literals_pb2
from flyteidl.core.tasks_pb2 import Sql, TaskTemplate
from flyteidl2.task.task_definition_pb2 import TaskSpec as TaskSpec2
from google.protobuf.message import DecodeError

from flyteagents._cli.type_words import read_type
from flyteagents._errors import InvalidTask
from flyteagents._types import Type
from flyteagents._wire.literals import decode_literal
from flyteagents._wire.structs import to_struct
from flyteagents._wire.types import decode_variables, encode_type

_KEYS = {
    "task_type", "name", "sql", "custom", "config", "inputs", "outputs", "values", "timeout",
    "retries",
}  # fmt: skip
_SPAN = re.compile(
    r"(?:([\d.]+)d)?(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s?)?",
)


class BadTaskFile(Exception):
    """The file is no task; the text says what to mend."""


@dataclass(frozen=True)
class TaskFile:
    """A task to run: its template, its interface in plain types, and values for its inputs."""

    template: TaskTemplate
    inputs: Mapping[str, Type]
    outputs: Mapping[str, Type]
    values: Mapping[str, object] = field(default_factory=dict)

    @property
    def timeout(self) -> float | None:
        """Seconds that one attempt may take, None for no limit."""
        seconds: float = self.template.metadata.timeout.ToTimedelta().total_seconds()
        return seconds or None

    @property
    def attempts(self) -> int:
        return int(self.template.metadata.retries.retries) + 1


def read_task(path: Path) -> TaskFile:
    """Read a task file. Raises BadTaskFile."""
    try:
        raw = path.read_bytes()
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
        raise BadTaskFile(f"unknown key: {named}; keys are {', '.join(sorted(_KEYS))}")
    inputs, outputs = _types(task, "inputs"), _types(task, "outputs")
    values = _mapping(task, "values")
    if stray := set(values) - set(inputs):
        raise BadTaskFile(f"values has {', '.join(sorted(stray))}, which inputs does not declare")
    return TaskFile(_template(task, inputs, outputs), inputs, outputs, values)


def _template(
    task: Mapping[str, Any], inputs: Mapping[str, Type], outputs: Mapping[str, Type]
) -> TaskTemplate:
    template = TaskTemplate(
        id=identifier_pb2.Identifier(
            resource_type=identifier_pb2.TASK,
            name=str(task.get("name") or task["task_type"]),
            version="local",
        ),
        type=task["task_type"],
        config={name: str(value) for name, value in _mapping(task, "config").items()},
        custom=to_struct(_mapping(task, "custom")),
    )
    for side, types in ((template.interface.inputs, inputs), (template.interface.outputs, outputs)):
        side.SetInParent()
        for name, declared in types.items():
            side.variables[name].type.CopyFrom(encode_type(declared))
    if task.get("sql"):
        template.sql.CopyFrom(Sql(statement=str(task["sql"]), dialect=Sql.ANSI))
    try:
        if task.get("timeout") is not None:
            template.metadata.timeout.FromTimedelta(read_span(task["timeout"]))
        template.metadata.retries.retries = int(task.get("retries") or 0)
    except (ValueError, TypeError) as error:
        raise BadTaskFile(f"timeout or retries: {error}") from None
    return template


def _types(task: Mapping[str, Any], key: str) -> dict[str, Type]:
    types = {}
    for name, written in _mapping(task, key).items():
        try:
            types[str(name)] = read_type(written)
        except ValueError as error:
            raise BadTaskFile(f"{key}: {name}: {error}") from None
    return types


def _mapping(task: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = task.get(key) or {}
    if not isinstance(value, dict):
        raise BadTaskFile(f"{key} must map names to values")
    return value


def _from_protobuf(raw: bytes) -> TaskFile | None:
    """A serialized template or spec of either generation; None when it is none of them."""
    if spec := _parsed(TaskSpec2, raw):
        inner, defaults = spec.task_template, spec.default_inputs
        # A template alone parses as a spec too, but has no name where a spec has one.
        if inner.type and inner.id.name:
            template = TaskTemplate.FromString(inner.SerializeToString())
            values = {
                each.name: _default(each.parameter) for each in defaults
                if each.parameter.HasField("default")
            }  # fmt: skip
            return _declared(template, values)
    if (spec := _parsed(TaskSpec1, raw)) and spec.template.type and spec.template.id.name:
        return _declared(spec.template, {})
    template = _parsed(TaskTemplate, raw)
    if template is not None and template.type and template.HasField("interface"):
        return _declared(template, {})
    return None


def _declared(template: TaskTemplate, values: Mapping[str, object]) -> TaskFile:
    interface = template.interface
    return TaskFile(
        template, decode_variables(interface.inputs), decode_variables(interface.outputs), values
    )


def _default(parameter: Any) -> object:
    return decode_literal(literals_pb2.Literal.FromString(parameter.default.SerializeToString()))


def _parsed(message: Any, raw: bytes) -> Any:
    try:
        return message.FromString(raw)
    except DecodeError:
        return None
