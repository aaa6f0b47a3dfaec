"""Python values as BigQuery reads them in a query parameter.

https://cloud.google.com/bigquery/docs/reference/rest/v2/QueryParameter
"""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from typing import Any

from flyteagents import Binary, Blob, InvalidTask, Schema, StructuredDataset
from flyteagents.kit.values import json_text

NULL: dict[str, Any] = {"value": None}


def parameter_value(value: object, declared: Mapping[str, Any]) -> dict[str, Any]:
    """`value` as a QueryParameterValue of the QueryParameterType `declared`, which is whole:
    `checked_type` has seen it, or we made it."""
    kind = declared["type"]
    if value is None:
        return NULL
    if kind == "ARRAY":
        items = value if isinstance(value, list) else [value]
        element = declared["arrayType"]
        return {"arrayValues": [parameter_value(item, element) for item in items]}
    if kind == "STRUCT":
        if not isinstance(value, Mapping):
            raise InvalidTask(f"a value of type {type(value).__name__} is not a STRUCT")
        fields = {field["name"]: field["type"] for field in declared["structTypes"]}
        return {
            "structValues": {
                name: parameter_value(value.get(name), of) for name, of in fields.items()
            }
        }
    return {"value": scalar(value, kind)}


def scalar(value: object, kind: str) -> str:
    """The text of a value of BigQuery's type `kind`. What has a text already is left to BigQuery
    to judge."""
    if kind == "JSON":
        return json_text(value, plain)
    # Before the numbers: a bool is an int to Python.
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        # Flyte's Struct has no integers: 10 arrives as 10.0, which is no INT64.
        return str(int(value)) if kind == "INT64" and value.is_integer() else _float(value)
    if isinstance(value, datetime):
        return _moment(value, kind)
    if isinstance(value, timedelta):
        return _span(value, kind)
    if isinstance(value, Binary):
        return base64.b64encode(value.value).decode()
    if isinstance(value, Blob | Schema | StructuredDataset):
        return table_name(value.uri)
    if isinstance(value, str | int):
        return str(value)
    if kind == "STRING":
        return json_text(value, plain)
    raise InvalidTask(f"a value of type {type(value).__name__} is not a {kind}")


def table_name(uri: str) -> str:
    """`bq://project:dataset.table` as SQL names it, project.dataset.table; other URIs as they
    are. A project may have a colon of its own, so the last one is the separator."""
    if not uri.startswith("bq://"):
        return uri
    project, _, table = uri[len("bq://") :].rpartition(":")
    return f"{project}.{table}" if project else table


def _float(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+inf" if value > 0 else "-inf"
    return repr(value)


def _moment(value: datetime, kind: str) -> str:
    """Flyte's datetimes are points in time; DATETIME and its parts are those of the UTC clock."""
    moment = value if value.tzinfo is None else value.astimezone(timezone.utc)
    moment = moment.replace(tzinfo=None)
    if kind == "DATE":
        if moment.time() != moment.min.time():
            raise InvalidTask(f"{moment.isoformat()} is not a DATE: it has a time of day")
        return moment.date().isoformat()
    if kind == "TIME":
        return moment.time().isoformat("microseconds")
    text = moment.isoformat(timespec="microseconds")
    return f"{text}+00:00" if kind == "TIMESTAMP" else text


def _span(value: timedelta, kind: str) -> str:
    """INTERVAL in its canonical form, years-months days hours:minutes:seconds, or microseconds.

    https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#interval_type
    """
    # Whole, not by total_seconds, a float; and of Python's parts only the days have a sign.
    microseconds = value // timedelta(microseconds=1)
    if kind != "INTERVAL":
        return str(microseconds)
    sign = "-" if microseconds < 0 else ""
    seconds, fraction = divmod(abs(microseconds), 1_000_000)
    clock = f"{seconds // 3600}:{seconds // 60 % 60}:{seconds % 60}"
    return f"0-0 0 {sign}{clock}" + (f".{fraction:06}" if fraction else "")


def plain(value: object) -> object:
    """What JSON has no form of its own for."""
    if isinstance(value, datetime):
        return _moment(value, "TIMESTAMP")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Binary):
        return base64.b64encode(value.value).decode()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Blob | Schema | StructuredDataset):
        return table_name(value.uri)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"a {type(value).__name__} is no JSON")
