"""The task's inputs as query parameters, `@name` in the statement.

| Flyte | BigQuery |
|---|---|
| integer, float, string, boolean | INT64, FLOAT64, STRING, BOOL |
| datetime, date | DATETIME in UTC, or TIMESTAMP by `datetimeParamType` |
| duration | INTERVAL, or INT64 microseconds by `durationParamType` |
| list | ARRAY; JSON where the elements are lists or dicts of anything |
| optional | NULL of the type that it may have |
| enum | STRING |
| dict, dataclass, map | JSON, or STRUCT by `structParamType` |
| bytes | BYTES |
| dataset, schema, file, directory | STRING: the URI, for `bq://` the table's name in SQL |

A parameter that the task's own configuration declares under an input's name gives the type, and
the input the value: so an input can be a DATE, a NUMERIC or a GEOGRAPHY.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from flyteagents import Binary, InvalidTask, Kind, Type
from flyteagents.kit.outputs import first_fitting
from flyteagents_bigquery.config import BigQueryConfig
from flyteagents_bigquery.values import parameter_value

_SCALARS = {
    Kind.INTEGER: "INT64",
    Kind.FLOAT: "FLOAT64",
    Kind.STRING: "STRING",
    Kind.BOOLEAN: "BOOL",
    Kind.ENUM: "STRING",
    Kind.BLOB: "STRING",
    Kind.SCHEMA: "STRING",
    Kind.STRUCTURED_DATASET: "STRING",
    Kind.NONE: "STRING",
    Kind.ERROR: "JSON",
}
_PYTHON: Mapping[Kind, type | tuple[type, ...]] = {
    Kind.INTEGER: int,
    Kind.FLOAT: float,
    Kind.STRING: str,
    Kind.ENUM: str,
    Kind.BOOLEAN: bool,
    Kind.DATETIME: datetime,
    Kind.DURATION: timedelta,
    Kind.COLLECTION: list,
    Kind.MAP: dict,
    Kind.STRUCT: (dict, list),
    Kind.BINARY: Binary,
}


def query_parameters(
    inputs: Mapping[str, object], interface: Mapping[str, Type], config: BigQueryConfig
) -> list[dict[str, Any]]:
    """The configured parameters and the inputs. Raises InvalidTask that names the input."""
    if inputs and config.mode == "POSITIONAL":
        raise InvalidTask(
            "the query's parameters are positional (?), and the task's inputs have names; "
            "use named parameters (@name), or no inputs"
        )

    asked: dict[str, Mapping[str, Any]] = {}
    parameters = []
    named = {name.lower() for name in inputs}
    for number, one in enumerate(config.parameters):
        name = str(one.get("name", "")).lower()
        if name not in named:
            parameters.append(one)  # BigQuery itself says what is wrong with it
        elif one.get("parameterType"):
            asked[name] = checked_type(
                one["parameterType"], f"queryParameters[{number}].parameterType"
            )

    for name, value in inputs.items():
        declared = interface.get(name, Type(Kind.NONE))
        try:
            kind = asked.get(name.lower()) or parameter_type(declared, value, config)
            text = parameter_value(value, kind)
        except InvalidTask as error:
            raise InvalidTask(f"input {name!r} as a query parameter: {error.message}") from None
        parameters.append({"name": name, "parameterType": kind, "parameterValue": text})
    return parameters


def checked_type(declared: object, path: str) -> Mapping[str, Any]:
    """A QueryParameterType that the task's author wrote, whole as far as a value is put into it.
    Raises InvalidTask with the path of what is wrong."""
    if not isinstance(declared, Mapping) or not isinstance(declared.get("type"), str):
        raise InvalidTask(f"{path} must be an object with a type")
    if declared["type"] == "ARRAY":
        checked_type(declared.get("arrayType"), f"{path}.arrayType")
    if declared["type"] == "STRUCT":
        fields = declared.get("structTypes")
        if not isinstance(fields, list) or not fields:
            raise InvalidTask(f"{path}.structTypes must be a list of the STRUCT's fields")
        for number, one in enumerate(fields):
            here = f"{path}.structTypes[{number}]"
            if not isinstance(one, Mapping) or not isinstance(one.get("name"), str):
                raise InvalidTask(f"{here} has no name, so no part of the input is its value")
            checked_type(one.get("type"), f"{here}.type")
    return declared


def parameter_type(declared: Type, value: object, config: BigQueryConfig) -> dict[str, Any]:
    """The QueryParameterType for a value of a declared type."""
    kind = declared.kind
    if kind is Kind.UNION:
        return parameter_type(_variant(declared, value), value, config)
    if kind is Kind.DATETIME:
        return {"type": config.datetimes}
    if kind is Kind.DURATION:
        return {"type": config.durations}
    if kind is Kind.COLLECTION:
        items = value if isinstance(value, list) else []
        element = _element(declared.element, items, config)
        # BigQuery has no arrays of arrays.
        if element["type"] == "ARRAY":
            return {"type": "JSON"}
        return {"type": "ARRAY", "arrayType": element}
    if kind in _SCALARS:
        return {"type": _SCALARS[kind]}
    return _untyped(value, config)


def _element(declared: Type, items: Sequence[object], config: BigQueryConfig) -> dict[str, Any]:
    """The one type of all elements; JSON where they differ."""
    kinds = [parameter_type(declared, item, config) for item in items if item is not None]
    # Without elements the declared type has to tell: BigQuery takes no ARRAY without arrayType.
    if not kinds:
        return parameter_type(declared, None, config)
    return kinds[0] if all(kind == kinds[0] for kind in kinds) else {"type": "JSON"}


def _variant(union: Type, value: object) -> Type:
    """The variant that a union's value has; for None the first that is not None."""
    found = None if value is None else first_fitting(union, lambda of: _fits(value, of))
    some = first_fitting(union, lambda of: of.kind is not Kind.NONE)
    return found or some or Type(Kind.NONE)


def _fits(value: object, declared: Type) -> bool:
    if isinstance(value, bool):  # an int to Python
        return declared.kind is Kind.BOOLEAN
    if declared.kind not in _PYTHON:
        return not isinstance(value, int | float | str | list | dict | datetime | timedelta)
    if not isinstance(value, _PYTHON[declared.kind]):
        return False
    if isinstance(value, list) and declared.kind is Kind.COLLECTION:
        return all(item is None or _fits(item, declared.element) for item in value)
    return True


def _untyped(value: object, config: BigQueryConfig) -> dict[str, Any]:
    """Structs, maps and msgpack: the value says what it is."""
    if isinstance(value, Binary):
        return {"type": "BYTES"}
    if config.structs == "STRUCT" and isinstance(value, Mapping):
        fields = [
            {"name": str(name), "type": _inferred(part, config)} for name, part in value.items()
        ]
        if fields:
            return {"type": "STRUCT", "structTypes": fields}
    return {"type": "JSON"}


def _inferred(value: object, config: BigQueryConfig) -> dict[str, Any]:
    for kind in (Kind.BOOLEAN, Kind.INTEGER, Kind.FLOAT, Kind.STRING, Kind.DATETIME, Kind.DURATION):
        if _fits(value, Type(kind)):
            return parameter_type(Type(kind), value, config)
    if isinstance(value, list) and value:
        element = _inferred(value[0], config)
        same = all(_inferred(item, config) == element for item in value)
        if same and element["type"] not in ("ARRAY", "JSON"):
            return {"type": "ARRAY", "arrayType": element}
    return {"type": "STRING"} if value is None else _untyped(value, config)
