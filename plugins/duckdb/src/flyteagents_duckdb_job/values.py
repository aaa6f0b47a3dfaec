"""Python values in the JSON of a job's files, with nothing lost."""

from __future__ import annotations

import base64
from datetime import date, datetime, timedelta
from typing import Any

TAG = "$"


def pack(value: object) -> Any:
    """JSON for a value. Raises TypeError for what has none."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [pack(item) for item in value]
    if isinstance(value, dict):
        # As pairs: JSON's keys are texts only, and one that is called `$` must not be read as ours.
        return {TAG: "map", "items": [[pack(key), pack(item)] for key, item in value.items()]}
    if isinstance(value, datetime):
        return {TAG: "datetime", "iso": value.isoformat()}
    if isinstance(value, date):
        return {TAG: "date", "iso": value.isoformat()}
    if isinstance(value, timedelta):
        return {TAG: "duration", "parts": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, bytes | bytearray | memoryview):
        return {TAG: "bytes", "base64": base64.b64encode(bytes(value)).decode()}
    raise TypeError(f"a value of type {type(value).__name__} cannot be passed on")


def unpack(packed: Any) -> Any:
    """The value that `pack` was given; tuples come back as lists."""
    if isinstance(packed, list):
        return [unpack(item) for item in packed]
    if not isinstance(packed, dict):
        return packed
    kind = packed[TAG]
    if kind == "map":
        return {unpack(key): unpack(item) for key, item in packed["items"]}
    if kind == "datetime":
        return datetime.fromisoformat(packed["iso"])
    if kind == "date":
        return date.fromisoformat(packed["iso"])
    if kind == "duration":
        days, seconds, microseconds = packed["parts"]
        return timedelta(days, seconds, microseconds)
    return base64.b64decode(packed["base64"])
