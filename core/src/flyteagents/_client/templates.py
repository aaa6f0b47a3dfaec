"""Task templates from Python values and types: what an SDK would have serialized.

Task files of the command line and the tests of agents are written with plain values; what Flyte
sends is a template with declared types and literals.
"""

from __future__ import annotations

import collections.abc
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from flyteidl.core import identifier_pb2, tasks_pb2

from flyteagents._client.attempt import FlyteTask
from flyteagents._types import Column, Kind, Type
from flyteagents._values import Binary, Blob, Schema, StructuredDataset
from flyteagents._wire.literals import encode_literals
from flyteagents._wire.structs import to_struct
from flyteagents._wire.types import encode_type

Declared = Type | type | UnionType
_KINDS: Mapping[object, Kind] = {
    bool: Kind.BOOLEAN,
    int: Kind.INTEGER,
    float: Kind.FLOAT,
    str: Kind.STRING,
    datetime: Kind.DATETIME,
    date: Kind.DATETIME,
    timedelta: Kind.DURATION,
    NoneType: Kind.NONE,
    bytes: Kind.BINARY,
    Binary: Kind.BINARY,
    Blob: Kind.BLOB,
    Schema: Kind.SCHEMA,
    StructuredDataset: Kind.STRUCTURED_DATASET,
}


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
    types = {variable: type_of(value) for variable, value in values.items()}
    types |= {variable: declared(of) for variable, of in (interface or {}).items()}

    template = tasks_pb2.TaskTemplate(type=task_type, config=config or {})
    template.id.resource_type = identifier_pb2.TASK
    template.id.project, template.id.domain = "tests", "development"
    template.id.name, template.id.version = name, "v1"
    template.metadata.runtime.version = "1.16.0"
    template.metadata.retries.retries = retries
    span = timeout if isinstance(timeout, timedelta) else timedelta(seconds=timeout)
    if span:
        template.metadata.timeout.FromTimedelta(span)

    _declare(template.interface.inputs, types)
    _declare(template.interface.outputs, outputs or {})
    # Absent is not empty: Flyte 2 fails a task that has no `custom` before it calls anyone.
    if custom is not None:
        template.custom.CopyFrom(to_struct(custom))
    # One or the other: a template's target is a `oneof`, where the last one set wins.
    if sql:
        template.sql.statement = sql
        template.sql.dialect = tasks_pb2.Sql.ANSI
    elif image or args:
        template.container.image = image
        template.container.args.extend(args)
    return FlyteTask(template, encode_literals(values, types))


def _declare(side: Any, types: Mapping[str, Declared]) -> None:
    # SDKs write an empty side too, and FlytePropeller asks only whether it is there.
    side.SetInParent()
    for variable, of in types.items():
        side.variables[variable].type.CopyFrom(encode_type(declared(of)))


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
    if origin in _KINDS:
        return Type(_KINDS[origin])
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
