"""A notebook's exit value as the outputs that the task declares."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from flyteagents import Blob, InvalidTask, Kind, Schema, StructuredDataset, Type
from flyteagents_databricks.run import NotebookOutput

_HOW = "end the notebook with dbutils.notebook.exit(json.dumps({...})), by output name"


def notebook_outputs(left: NotebookOutput, declared: Mapping[str, Type]) -> Mapping[str, object]:
    """The declared outputs: a JSON object by output name; where one output is declared, any text
    or JSON value. Raises InvalidTask."""
    if not declared:
        return {}
    names = ", ".join(sorted(declared))
    if left.truncated:
        raise InvalidTask("the notebook's exit value is over 5 MB, and Databricks cut it off")
    if left.result is None:
        raise InvalidTask(
            f"the task declares {names}, and the notebook exited with no value; {_HOW}"
        )
    value = _json(left.result)
    if isinstance(value, dict) and declared.keys() <= value.keys():
        return {name: _fit(name, value[name], of) for name, of in declared.items()}
    if len(declared) == 1:
        [(name, of)] = declared.items()
        text = of.kind in (Kind.STRING, Kind.ENUM)
        # A text as it came: read as JSON and written again, 1e3 would be 1000.0.
        return {name: _fit(name, left.result if text else value, of)}
    raise InvalidTask(f"the notebook's exit value does not have all of {names}; {_HOW}")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _fit(name: str, value: Any, of: Type) -> object:
    try:
        return as_declared(value, of)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidTask(
            f"the notebook's value of {name!r} is not a {of.kind.value}: {error}"
        ) from None


def as_declared(value: Any, of: Type) -> object:
    """A JSON value as the Python value of a declared type. Raises ValueError or TypeError."""
    kind = of.kind
    if kind is Kind.UNION:
        return _variant(value, of)
    if kind is Kind.COLLECTION:
        return [as_declared(part, of.element) for part in _checked(value, list)]
    if kind is Kind.MAP:
        parts = _checked(value, dict)
        return {name: as_declared(part, of.element) for name, part in parts.items()}
    if kind in _SIMPLE:
        return _SIMPLE[kind](value)
    if kind is Kind.STRUCTURED_DATASET:
        return StructuredDataset(_checked(value, str), of.columns, of.format)
    if kind is Kind.SCHEMA:
        return Schema(_checked(value, str), of.columns)
    if kind is Kind.BLOB:
        return Blob(_checked(value, str), of.format, of.multipart)
    raise TypeError("a notebook cannot give this type")


def _variant(value: Any, of: Type) -> object:
    # A text last, unless the value is one: whatever a notebook gives can be read as a text.
    loose = not isinstance(value, str)
    for variant in sorted(of.of, key=lambda one: loose and one.kind is Kind.STRING):
        try:
            return as_declared(value, variant)
        except (ValueError, TypeError):
            continue
    raise ValueError("none of its variants fits")


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"it is a {type(value).__name__}")
    return value


def _integer(value: Any) -> int:
    # json.dumps writes a whole float as 2.0; from 2**53 on it may have been another number.
    exact = not isinstance(value, float) or (value.is_integer() and abs(value) < 2**53)
    if isinstance(value, bool) or not exact:  # to Python True is an int
        raise TypeError(f"it is {value!r}")
    return int(value)


def _boolean(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return bool(_checked(value, bool))


def _moment(value: Any) -> datetime:
    text = _checked(value, str)
    # Python 3.10 does not read the Z.
    moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _nothing(value: Any) -> None:
    if value is not None:
        raise TypeError("it is a value")


def _string(value: Any) -> str:
    if value is None:
        raise TypeError("it is null")
    return value if isinstance(value, str) else json.dumps(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError(f"it is {value!r}")
    return float(value)


def _span(value: Any) -> timedelta:
    return timedelta(seconds=_number(value))


def _object(value: Any) -> dict[str, Any]:
    checked: dict[str, Any] = _checked(value, dict)
    return checked


_SIMPLE = {
    Kind.NONE: _nothing,
    Kind.INTEGER: _integer,
    Kind.FLOAT: _number,
    Kind.STRING: _string,
    Kind.ENUM: _string,
    Kind.BOOLEAN: _boolean,
    Kind.DATETIME: _moment,
    Kind.DURATION: _span,
    Kind.STRUCT: _object,
}
