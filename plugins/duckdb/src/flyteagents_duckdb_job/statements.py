"""The statements of a task's SQL: which are allowed, what they bind, and their own lines.

DuckDB counts the lines of the text that it is given. That is one statement, often inside another
one of ours, so its numbers are put right here: an author looks for them in the task's SQL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from flyteagents_duckdb_job.access import Refused
from flyteagents_duckdb_job.values import unpack

# Statements that work on the job's own tables. MULTI is what PIVOT becomes. The others change
# settings, load code or leave the database; DuckDB's lock refuses most of them as well.
ALLOWED = (
    "SELECT",
    "MULTI",
    "CREATE",
    "DROP",
    "ALTER",
    "INSERT",
    "UPDATE",
    "DELETE",
    "MERGE_INTO",
    "COPY",
)
ROWS = ("SELECT", "MULTI")

_LINE = re.compile(r"^LINE (\d+): (.*)\n( *)(\^+)", re.MULTILINE)
# Options of COPY by which the names of files, and so other folders, can be chosen.
_NAMING = ("filename_pattern", "file_extension")


@dataclass(frozen=True)
class Statement:
    """One statement.

    text: its SQL, without the semicolon that ends it. before: the lines of the task's SQL that
    stand before its first one. parameters: the names that it binds.
    """

    kind: str
    text: str
    before: int
    parameters: frozenset[str]

    @property
    def has_rows(self) -> bool:
        return self.kind in ROWS

    def run(
        self,
        connection: Any,
        bound: dict[str, Any],
        opening: str = "",
        closing: str = "",
    ) -> Any:
        """Execute it, between `opening` and `closing` where they are given: SQL of one line each.
        Raises DuckDB's errors, which show the lines of the task's SQL."""
        if not opening and not closing:
            text, added = self.text, 0
        else:
            text, added = f"{opening}\n{self.text}\n{closing}", 1
        try:
            return connection.execute(text, bound)
        except duckdb.Error as error:
            # Of the same class, since the verdict goes by it.
            raise type(error)(_moved(str(error), self.before - added)) from error


def parse(connection: Any, sql: str) -> list[Statement]:
    """The statements of the task's SQL. Raises Refused for those that do not belong in a job."""
    found = connection.extract_statements(sql)
    if not found:
        raise Refused("the statement is empty")

    statements = []
    position = 0
    for each in found:
        kind = each.type.name
        if kind not in ALLOWED:
            raise Refused(
                f"{kind} statements are not allowed: a job works on its inputs and its "
                "own tables, and its settings are the operator's"
            )
        text = _text_of(each)
        if not text:
            raise Refused(
                "this version of DuckDB runs PIVOT in a job only where its values are named: "
                "PIVOT ... ON column IN (...)"
            )

        start = max(sql.find(text, position), position)
        position = start + len(text)
        statements.append(
            Statement(
                kind=kind,
                text=text,
                before=sql.count("\n", 0, start),
                parameters=frozenset(each.named_parameters),
            )
        )
    return statements


def bind(statement: Statement, description: dict[str, Any]) -> dict[str, Any]:
    """The parameters that a statement uses. Raises Refused for those that are not there."""
    bound = {}
    # Only these: DuckDB refuses values for parameters that a statement does not have.
    for name in sorted(statement.parameters):
        if name in description["tables"]:
            raise Refused(f"input {name!r} is a table: write FROM {name}, not ${name}")
        if name not in description["parameters"]:
            there = ", ".join(f"${each}" for each in description["parameters"])
            known = f"; there are: {there}" if there else ", and no other one"
            raise Refused(f"there is no input for the parameter ${name}{known}")

        parameter = description["parameters"][name]
        value = unpack(parameter["value"])
        # DuckDB binds a small int as INTEGER, and $x * 2 overflows; Flyte's integers have 64 bits.
        typed = parameter["type"]
        bound[name] = duckdb.Value(value, duckdb.type(typed)) if typed else value
    return bound


def check_target(statement: Statement, inputs: Sequence[Path], folder: Path) -> None:
    """Raises Refused where a COPY could write to a declared input.

    DuckDB has one list for files that may be read and written, so a declared input, which a job
    may read only, is looked for here. `folder` has the links and the copies of inputs.
    """
    if statement.kind != "COPY":
        return
    tokens = _tokens(statement.text)
    number = _direction(tokens)
    if tokens[number][1].casefold() == "from":
        return

    kind, target = tokens[number + 1] if number + 1 < len(tokens) else (None, "")
    if kind != duckdb.token_type.string_const or not target.startswith("'"):
        raise Refused("the target of COPY ... TO must be a plain text: COPY ... TO '/folder/file'")

    real = Path(os.path.realpath(target[1:-1].replace("''", "'")))
    if real in inputs or real.is_relative_to(folder):
        raise Refused(f"COPY ... TO {target}: a declared input is for reading only")

    for name, value in zip(tokens[number:], tokens[number + 1 :], strict=False):
        if name[1].strip('"').casefold() not in _NAMING:
            continue
        if value[0] != duckdb.token_type.string_const or not re.fullmatch(r"'[^/\\]*'", value[1]):
            raise Refused(f"{name[1]} of COPY must be a plain text without /, not {value[1]}")


def _text_of(statement: Any) -> str:
    """A statement's SQL without the semicolon that ends it, which a comment may follow.

    Before 2.0, DuckDB puts statements of its own before a PIVOT whose values are not named, and
    has no text for any of them.
    """
    try:
        text = statement.query.encode()
    except IndexError:
        return ""

    end = len(text)
    for offset, token in reversed(duckdb.tokenize(text.decode())):
        if token == duckdb.token_type.comment:
            continue
        if text[offset : offset + 1] != b";":
            break
        end = offset
    return str(text[:end].decode().strip())


def _direction(tokens: Sequence[tuple[Any, str]]) -> int:
    """Where the TO or FROM of a COPY is: the first one outside of brackets."""
    depth = 0
    for number, (_, token) in enumerate(tokens):
        depth += {"(": 1, ")": -1}.get(token, 0)
        if depth == 0 and token.casefold() in ("to", "from"):
            return number
    raise Refused("this COPY cannot be read; write COPY (SELECT ...) TO '/folder/file'")


def _tokens(text: str) -> list[tuple[Any, str]]:
    """The tokens of a statement, without comments. DuckDB tells where each begins, in bytes, and
    gives several brackets or signs in a row as one."""
    raw = text.encode()
    starts = duckdb.tokenize(text)
    ends = [offset for offset, _ in starts[1:]] + [len(raw)]
    found = []
    for (start, kind), end in zip(starts, ends, strict=True):
        token = raw[start:end].decode().strip()
        if kind == duckdb.token_type.comment:
            continue
        if kind == duckdb.token_type.operator:
            signs = re.sub(r"--.*|/\*.*?\*/|\s", "", token, flags=re.DOTALL)
            found += [(kind, sign) for sign in signs]
        else:
            found.append((kind, _without_comment(token)))
    return found


def _without_comment(token: str) -> str:
    """A token up to a comment: older versions do not give comments as tokens."""
    if token.startswith("'"):
        end = re.match(r"'(?:[^']|'')*'", token)
        return end[0] if end else token
    return re.split(r"--|/\*|\s", token, maxsplit=1)[0]


def _moved(message: str, lines: int) -> str:
    """A message of DuckDB's with its line number moved, and its mark still below the place."""

    def move(found: re.Match[str]) -> str:
        before, text, space, mark = found.groups()
        after = str(int(before) + lines)
        indent = " " * (len(space) + len(after) - len(before))
        return f"LINE {after}: {text}\n{indent}{mark}"

    return _LINE.sub(move, message)
