"""A task's inputs in its statement: `%(name)s`, as both SDKs document it.

By default they are written into the text, as the driver of the other connectors does ("client");
"server" sends them beside it, with the types of the SQL API.

What is written is a whole literal, so it must not stand within another one, or in a comment, that
it could end: the rest of a text would be SQL then. The driver runs one statement of whatever comes
of that; here it could be as many as somebody puts into an input.

https://docs.snowflake.com/en/developer-guide/sql-api/submitting-requests
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone

from flyteagents import Binary, InvalidTask
from flyteagents.kit.values import json_text
from flyteagents_snowflake.literals import literal, not_finite, plain, text_of
from flyteagents_snowflake.scanner import Token, enclosing, tokens

Bindings = dict[str, dict[str, str | None]]
_PLACE = re.compile(r"%(?:(?P<percent>%)|\((?P<name>[^()]*)\)s|)", re.DOTALL)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_DAY = timedelta(days=1)
_UTC = 1440
"""In the SQL API an offset of a time zone is counted in minutes from 24 hours west."""


def written(statement: str, inputs: Mapping[str, object]) -> str:
    """The statement with the inputs as literals. Without inputs it stays as it is, percent signs
    too. Raises InvalidTask."""
    # The driver formats nothing where there are no inputs, so tasks have a bare % there.
    if not inputs:
        return statement
    return _replaced(statement, inputs, literal)


def beside(statement: str, inputs: Mapping[str, object]) -> tuple[str, Bindings]:
    """The statement with question marks, and their values. Raises InvalidTask."""
    bindings: Bindings = {}

    def mark(value: object) -> str:
        if isinstance(value, list | tuple):
            return ",".join(map(mark, value))
        bindings[str(len(bindings) + 1)] = bound(value)
        return "?"

    if not inputs:
        return statement, bindings
    return _replaced(statement, inputs, mark), bindings


def rows(statement: str, inputs: Mapping[str, object]) -> str:
    """The statement with its one `VALUES (...)` repeated for each row of the inputs, which are
    lists of one length. Raises InvalidTask."""
    columns = {name: value for name, value in inputs.items() if isinstance(value, list | tuple)}
    if len(columns) < len(inputs):
        names = ", ".join(sorted(inputs.keys() - columns.keys()))
        raise InvalidTask(f"in a batch all inputs are lists; these are none: {names}")
    lengths = {len(column) for column in columns.values()}
    if len(lengths) != 1 or not sum(lengths):
        told = ", ".join(f"{name} has {len(column)}" for name, column in columns.items())
        raise InvalidTask(
            f"in a batch all lists have the same length, and at least one row: {told}"
        )

    begin, end = _values(statement)
    row = statement[begin:end]
    within = enclosing(row)
    every = (
        _replaced(row, {name: column[number] for name, column in columns.items()}, literal, within)
        for number in range(lengths.pop())
    )
    # What is beside the rows cannot name an input, of which there would be many values.
    before, after = (_replaced(part, {}, literal) for part in (statement[:begin], statement[end:]))
    return before + ", ".join(every) + after


def bound(value: object) -> dict[str, str | None]:
    """A value as a binding: its type, and its text or null. Raises InvalidTask."""
    kind, text = _binding(value)
    return {"type": kind, "value": text}


def _binding(value: object) -> tuple[str, str | None]:
    if value is None:
        return "TEXT", None
    # bool before int, and datetime before date: to Python each is a kind of the other.
    if isinstance(value, bool):
        return "BOOLEAN", "true" if value else "false"
    if isinstance(value, int):
        return "FIXED", str(value)
    if isinstance(value, float):
        finite = value - value == 0
        return "REAL", repr(value) if finite else not_finite(value)
    if isinstance(value, Binary):
        return "BINARY", value.value.hex().upper()
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, date):
        # The SQL API counts a DATE in milliseconds, and everything else in nanoseconds.
        return "DATE", str((value - _EPOCH.date()) // timedelta(milliseconds=1))
    if isinstance(value, timedelta):
        if not timedelta(0) <= value < _DAY:
            raise InvalidTask(f"{value} is not a TIME, which is what a duration is bound as")
        return "TIME", _nanoseconds(value)
    if isinstance(value, Mapping):
        return "TEXT", json_text(value, plain)
    return "TEXT", text_of(value)


def _moment(value: datetime) -> tuple[str, str]:
    offset = value.utcoffset()
    if offset is None:
        return "TIMESTAMP_NTZ", _nanoseconds(value.replace(tzinfo=timezone.utc) - _EPOCH)
    minutes = _UTC + offset // timedelta(minutes=1)
    return "TIMESTAMP_TZ", f"{_nanoseconds(value - _EPOCH)} {minutes}"


def _nanoseconds(value: timedelta) -> str:
    # In whole numbers: today's nanoseconds do not fit into the 53 bits of a float.
    return str(value // timedelta(microseconds=1) * 1000)


def _replaced(
    statement: str,
    inputs: Mapping[str, object],
    write: Callable[[object], str],
    within: Mapping[int, str] | None = None,
) -> str:
    """within: what `enclosing` says of the statement."""
    ends = enclosing(statement) if within is None else within

    def place(found: re.Match[str]) -> str:
        name = found["name"]
        if found["percent"]:
            return "%"
        if name is None:
            # Python's other formats (%d, %.3s) would cut a literal open.
            near = statement[found.start() : found.start() + 20]
            raise InvalidTask(
                f"an input is named %(name)s, and a percent sign is written %% where there are "
                f"inputs; the statement has {near!r}"
            )
        if name not in inputs:
            there = ", ".join(sorted(inputs)) or "none"
            raise InvalidTask(f"there is no input for %({name})s here; there are: {there}")
        text = write(inputs[name])
        end = ends.get(found.start(), "")
        if end and end in text:
            raise InvalidTask(
                f"%({name})s stands within quotes or a comment, and its value would end them "
                f"({end}); an input is written with quotes of its own: leave those around it out"
            )
        # 10-%(x)s, for -5: two of them begin a comment.
        minus = text.startswith("-") and statement[: found.start()].endswith("-")
        return f" {text}" if minus else text

    return _PLACE.sub(place, statement)


def _values(statement: str) -> tuple[int, int]:
    """Where the parentheses after VALUES begin and end. Raises InvalidTask unless there is one."""
    # flyte-sdk's pattern for it breaks on a function in a function (its connector.py:126-181).
    every = list(tokens(statement))
    found = [
        number + 1
        for number, token in enumerate(every[:-1])
        if token.text.upper() == "VALUES" and every[number + 1].text == "("
    ]
    if len(found) != 1:
        raise InvalidTask(
            f"a batch repeats the statement's one VALUES (...), and it has {len(found)}"
        )
    return every[found[0]].at, _closing(every[found[0] :])


def _closing(every: Sequence[Token]) -> int:
    """The end of the parenthesis that the first of these opens. Raises InvalidTask."""
    depth = 0
    for token in every:
        depth += (token.text == "(") - (token.text == ")")
        if depth == 0:
            return token.at + 1
    raise InvalidTask("the parentheses after VALUES are not closed")
