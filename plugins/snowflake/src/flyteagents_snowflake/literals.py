"""Values as literals of SQL, letter for letter as Snowflake's Python driver writes them.

The vectors are those of snowflake-connector-python 4.8.1 (`converter.py`); later majors differ.
Beyond it: what is no number to Snowflake (NaN) becomes one, and maps, tables and files have a text.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta

from flyteagents import Binary, Blob, InvalidTask, Schema, StructuredDataset
from flyteagents.kit.values import json_text

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", "\r": r"\r", "'": r"\'"})
_QUERY_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def literal(value: object) -> str:
    """The value as SQL has it; a list is its elements with commas between them, as in
    `IN (%(x)s)`. Raises InvalidTask for what has no text."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return repr(int(value))
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f"'{not_finite(value)}'::FLOAT"
    if isinstance(value, bytes):
        return f"X'{value.hex().upper()}'"
    if isinstance(value, Binary):
        return literal(value.value)
    if isinstance(value, list | tuple):
        return ",".join(map(literal, value))
    return text_literal(text_of(value))


def text_literal(text: str) -> str:
    return f"'{text.translate(_ESCAPES)}'"


def not_finite(value: float) -> str:
    """What Snowflake reads as NaN or infinity."""
    return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"


def text_of(value: object) -> str:
    """The text of a value that is written in quotes. Raises InvalidTask for what has none."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, datetime):
        # The year as the driver writes it: whether %Y has leading zeros depends on the platform.
        return f"{value.year}{value:-%m-%d} {_clock(value)}{_offset(value)}"
    if isinstance(value, date):
        return f"{value.year}{value:-%m-%d}"
    if isinstance(value, time):
        return _clock(value)
    if isinstance(value, timedelta):
        return span(value)
    if isinstance(value, StructuredDataset | Schema):
        return table_text(value.uri)
    if isinstance(value, Blob):
        return value.uri
    if isinstance(value, Mapping) or dataclasses.is_dataclass(value):
        return json_text(value, plain)
    raise InvalidTask(f"a value of type {type(value).__name__} cannot be put into SQL")


def span(value: timedelta) -> str:
    """A duration as a time of day, which may have more hours than a day."""
    hours, rest = divmod(value.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    clock = f"{hours + value.days * 24:02d}:{minutes:02d}:{seconds:02d}"
    return f"{clock}.{value.microseconds:06d}" if value.microseconds else clock


def table_text(uri: str) -> str:
    """What names a table or a result in SQL: of `snowflake://user:account/warehouse/db/schema/x`
    the id of the query, for RESULT_SCAN, or the qualified name of the table."""
    parts = re.split(r"/|://|:", uri)
    if not uri.startswith("snowflake://") or len(parts) != 7:
        return uri
    database, schema, last = parts[4:]
    return last if _QUERY_ID.fullmatch(last) else f"{database}.{schema}.{last}"


def plain(value: object) -> object:
    """What JSON has no form of its own for, as PARSE_JSON takes it."""
    if isinstance(value, bytes):
        return value.hex().upper()
    if isinstance(value, Binary):
        return value.value.hex().upper()
    if isinstance(value, StructuredDataset | Schema | Blob | date | timedelta):
        return text_of(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"a {type(value).__name__} is no JSON")


def _clock(value: datetime | time) -> str:
    return f"{value:%H:%M:%S}" + (f".{value.microsecond:06d}" if value.microsecond else "")


def _offset(value: datetime) -> str:
    offset = value.utcoffset()
    if offset is None:
        return ""
    hours, minutes = divmod(abs(offset) // timedelta(minutes=1), 60)
    return f"{'-' if offset < timedelta(0) else '+'}{hours:02d}:{minutes:02d}"
