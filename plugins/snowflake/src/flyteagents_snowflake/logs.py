"""A statement's log: Snowflake keeps none, so it is what the SQL API says about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flyteagents import LogLine
from flyteagents.kit.answers import moment
from flyteagents_snowflake.answers import Answer
from flyteagents_snowflake.reasons import words
from flyteagents_snowflake.statistics import statement_numbers


def log_lines(found: Answer, children: Sequence[Answer]) -> list[LogLine]:
    """The lines, in the order of time. children: of a request of several statements."""
    lines = [_begun(found)]
    lines += [_ended(child, f"statement {number}: ") for number, child in enumerate(children, 1)]
    return [*lines, _ended(found)]


def _begun(found: Answer) -> LogLine:
    return LogLine(f"query {found.handle or '?'} was submitted", moment(found.created), True)


def _ended(found: Answer, who: str = "") -> LogLine:
    if found.running:
        return LogLine(f"{who}runs: {found.message}", None, True)
    if found.succeeded:
        return LogLine(f"{who}done: {_told(statement_numbers(found)) or 'no numbers'}", None, True)
    return LogLine(f"{who}{found.code} ({found.sql_state}): {words(found.message)}")


def _told(numbers: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in numbers.items())
