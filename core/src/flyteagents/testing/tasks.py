"""Task templates from Python values, and what a caller adds to them for one attempt."""

from __future__ import annotations

import collections.abc
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from flyteidl.admin import agent_pb2
from flyteidl.core import identifier_pb2, literals_pb2, tasks_pb2

from flyteagents._types import Column, Kind, Type
from flyteagents._values import Binary, Blob, Schema, StructuredDataset
from flyteagents._wire.literals import encode_literals
from flyteagents._wire.structs import to_struct
from flyteagents._wire.types import decode_variables, encode_type

Generation = Literal[1, 2]
Declared = Type | type | UnionType
_KINDS: tuple[tuple[type, Kind], ...] = (
    (bool, Kind.BOOLEAN), (int, Kind.INTEGER), (float, Kind.FLOAT), (str, Kind.STRING),
    (datetime, Kind.DATETIME), (date, Kind.DATETIME), (timedelta, Kind.DURATION),
    (NoneType, Kind.NONE), (bytes, Kind.BINARY), (Binary, Kind.BINARY), (Blob, Kind.BLOB),
    (Schema, Kind.SCHEMA), (StructuredDataset, Kind.STRUCTURED_DATASET),
)  # fmt: skip


@dataclass(frozen=True)
class FlyteTask:
    """A task as its author made it: the template, and the values of its inputs. Both are
    messages of Flyte 1, which Flyte 2 reads as its own."""

    template: tasks_pb2.TaskTemplate
    inputs: literals_pb2.LiteralMap = field(default_factory=literals_pb2.LiteralMap)

    @property
    def type(self) -> str:
        task_type: str = self.template.type
        return task_type

    @property
    def declared(self) -> Mapping[str, Type]:
        """The outputs that it declares."""
        return decode_variables(self.template.interface.outputs)


def task_template(
    task_type: str,
    *,
    custom: Mapping[str, object] | None = None,
    config: Mapping[str, str] | None = None,
    sql: str = "",
    inputs: Mapping[str, object] | None = None,
    interface: Mapping[str, Declared] | None = None,
    outputs: Mapping[str, Declared] | None = None,
    timeout: float | timedelta = 0.0,
    retries: int = 0,
    image: str = "",
    args: Sequence[str] = (),
    name: str = "tests.task",
) -> FlyteTask:
    """A task of `task_type`.

    ```python
    task_template("acme_job", custom={"script": "sleep 1"}, inputs={"n": 3}, outputs={"x": int})
    ```
    inputs: name to value; their types follow from the values, or stand in `interface`.
    interface, outputs: name to declared type: a `Type`, or a Python type such as `int`,
        `list[str]`, `dict[str, float]`, `int | None`, `Blob`, `StructuredDataset`, `dict`.
    timeout: seconds. retries: how many more attempts the author allows.
    """
    values = inputs or {}
    types = {name: type_of(value) for name, value in values.items()}
    types |= {name: declared(of) for name, of in (interface or {}).items()}
    template = tasks_pb2.TaskTemplate(type=task_type, config=config or {})
    template.id.CopyFrom(
        identifier_pb2.Identifier(
            resource_type=identifier_pb2.TASK, project="tests", domain="development",
            name=name, version="v1",
        )
    )  # fmt: skip
    template.metadata.retries.retries = retries
    template.metadata.runtime.version = "1.16.0"
    span = timeout if isinstance(timeout, timedelta) else timedelta(seconds=timeout)
    if span:
        template.metadata.timeout.FromTimedelta(span)
    for target, of in (
        (template.interface.inputs, types),
        (template.interface.outputs, {k: declared(v) for k, v in (outputs or {}).items()}),
    ):
        target.SetInParent()
        for variable, its_type in of.items():
            target.variables[variable].type.CopyFrom(encode_type(its_type))
    if custom is not None:
        template.custom.CopyFrom(to_struct(custom))
    if sql:
        template.sql.statement = sql
    elif image or args:
        template.container.image = image
        template.container.args.extend(args)
    return FlyteTask(template, encode_literals(values, types))


def declared(of: Declared) -> Type:
    """The declared type for a Python type. Raises TypeError for one that Flyte does not have."""
    if isinstance(of, Type):
        return of
    arguments = tuple(declared(part) for part in get_args(of) if part is not Ellipsis)
    origin = get_origin(of) or of
    if origin in (UnionType, Union):
        return Type(Kind.UNION, arguments)
    if origin in (list, tuple, collections.abc.Sequence):
        return Type(Kind.COLLECTION, arguments[:1] or (Type(Kind.NONE),))
    if origin in (dict, collections.abc.Mapping):
        return Type(Kind.MAP, arguments[1:]) if arguments else Type(Kind.STRUCT)
    for python, kind in _KINDS:
        if origin is python:
            return Type(kind)
    raise TypeError(f"Flyte has no type for {of!r}; give a flyteagents.Type")


def type_of(value: object) -> Type:
    """The type that a value suggests."""
    if isinstance(value, list | tuple):
        return Type(Kind.COLLECTION, (type_of(value[0]) if value else Type(Kind.NONE),))
    if isinstance(value, Mapping):
        return Type(Kind.STRUCT)
    columns: tuple[Column, ...] = getattr(value, "columns", ())
    return replace(
        declared(type(value)),
        columns=columns,
        format=getattr(value, "format", ""),
        multipart=getattr(value, "multipart", False),
    )


@dataclass(frozen=True)
class Attempt:
    """One attempt of a task, as one Flyte generation names it.

    number: 0 for the first. base: what all output prefixes begin with. secrets, configs: what
    Flyte 2 sends along, by name.
    """

    task: FlyteTask
    execution: str = field(default_factory=lambda: f"e{secrets.token_hex(6)}")
    number: int = 0
    generation: Generation = 1
    base: str = "s3://flyte"
    project: str = "tests"
    domain: str = "development"
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    configs: Mapping[str, str] = field(default_factory=dict)

    @property
    def output_prefix(self) -> str:
        """Where this attempt's outputs go; it ends with the attempt's number, which Flyte 2
        counts from 1."""
        owner = f"{self.base}/{self.project}/{self.domain}/{self.execution}"
        return (
            f"{owner}/n0/data/{self.number}"
            if self.generation == 1
            else (f"{owner}/a0/{self.number + 1}")
        )

    def next(self) -> Attempt:
        """The attempt that follows this one."""
        return replace(self, number=self.number + 1)

    def metadata(self) -> agent_pb2.TaskExecutionMetadata:
        """What the caller tells about itself; only what the Go clients really fill in."""
        message = agent_pb2.TaskExecutionMetadata(
            namespace=f"{self.project}-{self.domain}",
            k8s_service_account="default",
            labels=self._labels(),
        )
        of = message.task_execution_id
        of.task_id.CopyFrom(self.task.template.id)
        of.retry_attempt = self.number
        node = of.node_execution_id
        node.node_id = "n0" if self.generation == 1 else "a0"
        node.execution_id.project, node.execution_id.domain = self.project, self.domain
        node.execution_id.name = self.execution
        return message

    def _labels(self) -> dict[str, str]:
        name = self.task.template.id.name.replace(".", "-").lower()
        if self.generation == 1:
            return {
                "execution-id": self.execution, "node-id": "n0", "task-name": name,
                "interruptible": "false",
            }  # fmt: skip
        return {
            "organization": "", "project": self.project, "domain": self.domain,
            "run": self.execution, "action": "a0", "attempt": str(self.number + 1),
            "task-name": name,
        }  # fmt: skip


def create_message(attempt: Attempt) -> Any:
    """The CreateTaskRequest of an attempt, in Flyte 1's form."""
    return agent_pb2.CreateTaskRequest(
        inputs=attempt.task.inputs,
        template=attempt.task.template,
        output_prefix=attempt.output_prefix,
        task_execution_metadata=attempt.metadata(),
    )
