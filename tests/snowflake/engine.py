"""The engine behind the fake Snowflake: SQL that really runs, on DuckDB, through sqlglot.

What it cannot be trusted for, and what no test may conclude from it:

- Types. Integers, floats, texts, booleans, dates and timestamps come back as Snowflake writes
  them; NUMBER's scale, VARIANT, time zones of results and geography do not.
- FLATTEN, `$1 FROM VALUES`, COPY, stages, streams, tasks, scripting blocks and procedures: DuckDB
  has none of them, and the statement fails as one with a syntax error does.
- Error codes: DuckDB's errors are mapped to the few codes that a user meets most.
- Names. There is one catalog, names do not care for upper and lower case, and rights are not
  looked at: every role may do everything.
- Speed, queueing, caching, credits, and how the optimiser sees anything.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

import duckdb

HISTORY = re.compile(
    r"TABLE\s*\(\s*(?:\"[^\"]+\"|\w+)\.INFORMATION_SCHEMA\.QUERY_HISTORY(?:_BY_USER)?"
    r"\s*\((?P<arguments>[^()]*)\)\s*\)",
    re.IGNORECASE,
)
_EPOCH = datetime.fromtimestamp(0, timezone.utc).replace(tzinfo=None)
_ERRORS: Sequence[tuple[type[Exception], str, str]] = (
    (duckdb.InterruptException, "000604", "57014"),
    (duckdb.CatalogException, "002003", "42S02"),
    (duckdb.ParserException, "001003", "42000"),
    (duckdb.BinderException, "000904", "42000"),
    (duckdb.ConversionException, "100038", "22018"),
    (duckdb.ConstraintException, "100072", "22000"),
    (SqlglotError, "001003", "42000"),
)


class Failed(Exception):
    """A statement's end, as Snowflake tells of it."""

    def __init__(self, code: str, state: str, message: str) -> None:
        super().__init__(message)
        self.code, self.state, self.message = code, state, message


@dataclass(frozen=True)
class Result:
    """columns: name and type in Snowflake's words. rows: cells as the SQL API writes them."""

    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str | None]]
    stats: Mapping[str, str] = field(default_factory=dict)
    kind: str = "SELECT"


@dataclass
class Context:
    """What a request runs as. `history` gives the rows of the query history, `cancel` stops
    the statement of a handle."""

    user: str
    account: str
    role: str
    warehouse: str
    database: str
    schema: str
    history: Callable[[str], tuple[Sequence[str], Sequence[Sequence[object]]]]
    cancel: Callable[[str], str]
    parameters: dict[str, str] = field(default_factory=dict)


class Engine:
    """One DuckDB, shared by all requests."""

    def __init__(self) -> None:
        self._database = duckdb.connect(":memory:")
        self._lock = threading.Lock()

    def session(self, context: Context) -> Session:
        """A session of its own: temporary tables and transactions are nobody else's."""
        with self._lock:
            return Session(self._database.cursor(), context)

    def close(self) -> None:
        self._database.close()


class Session:
    """What one request runs in."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, context: Context) -> None:
        self._connection, self._context = connection, context
        schema = re.sub(r"\W", "_", context.schema or "PUBLIC")
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        connection.execute(f"SET schema = 'memory.{schema}'")
        connection.execute("SET TimeZone = 'UTC'")

    def interrupt(self) -> None:
        with contextlib.suppress(duckdb.ConnectionException):  # it has ended meanwhile
            self._connection.interrupt()

    def close(self) -> None:
        """What no COMMIT has ended is rolled back."""
        self._connection.close()

    def run(self, statement: str, bindings: Sequence[object] = ()) -> Result:
        """One statement. Raises Failed."""
        known = self._own(statement)
        if known is not None:
            return known
        try:
            kind, text = self._translated(statement)
            cursor = self._connection.execute(text, list(bindings) or None)
            columns = [(column[0], str(column[1])) for column in cursor.description or ()]
            rows = cursor.fetchall() if columns else []
        except Exception as error:  # noqa: BLE001 # whatever the engine says is the answer
            raise _failure(error) from None
        return _result(kind, columns, rows)

    def _own(self, statement: str) -> Result | None:
        """What only Snowflake has."""
        words = statement.split(None, 2)
        first = words[0].upper() if words else ""
        if first == "ALTER" and words[1].upper() == "SESSION":
            for name, value in re.findall(r"(\w+)\s*=\s*('(?:[^']|'')*'|[\w.-]+)", statement):
                self._context.parameters[name.upper()] = value.strip("'")
            return _said("ALTER_SESSION", "Statement executed successfully.")
        if first == "USE":
            return _said("USE", "Statement executed successfully.")
        if first in ("PUT", "GET"):
            raise Failed("000002", "0A000", f"Unsupported feature '{first}'.")
        return None

    def _translated(self, statement: str) -> tuple[str, str]:
        if found := HISTORY.search(statement):
            names, rows = self._context.history(found["arguments"])
            self._remember(names, rows)
            statement = HISTORY.sub("flyte_query_history", statement)
        tree = sqlglot.parse_one(statement, read="snowflake")
        kind = type(tree).__name__.upper()
        tree = tree.transform(self._replaced)
        return kind, tree.sql(dialect="duckdb")

    def _remember(self, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """The history as a table, for this session."""
        columns = ", ".join(f'"{name}" {_history_type(name)}' for name in names)
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE flyte_query_history ({columns})")
        if rows:
            marks = ", ".join("?" for _ in names)
            insert = f"INSERT INTO flyte_query_history VALUES ({marks})"
            self._connection.executemany(insert, [list(row) for row in rows])

    def _replaced(self, node: exp.Expression) -> exp.Expression:
        context = self._context
        if isinstance(node, exp.Table) and node.args.get("catalog"):
            node.set("catalog", None)
            return node
        name = node.name.upper() if isinstance(node, exp.Anonymous) else type(node).__name__.upper()
        told = {
            "CURRENT_USER": context.user,
            "CURRENTUSER": context.user,
            "CURRENT_ROLE": context.role,
            "CURRENTROLE": context.role,
            "CURRENT_WAREHOUSE": context.warehouse,
            "CURRENTWAREHOUSE": context.warehouse,
            "CURRENT_DATABASE": context.database,
            "CURRENTDATABASE": context.database,
            "CURRENT_SCHEMA": context.schema,
            "CURRENTSCHEMA": context.schema,
            "CURRENT_ACCOUNT": context.account,
            "CURRENTACCOUNT": context.account,
        }
        if name in told and isinstance(node, exp.Func):
            return exp.Literal.string(told[name])
        if name == "SYSTEM$CANCEL_QUERY" and isinstance(node, exp.Anonymous):
            return exp.Literal.string(context.cancel(node.expressions[0].name))
        return node


def split(text: str) -> list[str]:
    """The statements of a request, as another reader than the plugin's sees them."""
    try:
        tokens = sqlglot.tokenize(text, read="snowflake")
    except SqlglotError as error:
        raise _failure(error) from None
    parts: list[str] = []
    begin = end = -1
    for token in tokens:
        if token.text == ";" and token.token_type is sqlglot.TokenType.SEMICOLON:
            if begin >= 0:
                parts.append(text[begin : end + 1])
            begin = -1
            continue
        begin, end = (token.start if begin < 0 else begin), token.end
    return [*parts, text[begin : end + 1]] if begin >= 0 else parts


def bound(bindings: Mapping[str, Mapping[str, Any]]) -> list[object]:
    """Bindings as values for DuckDB, from the texts of the SQL API.

    https://docs.snowflake.com/en/developer-guide/sql-api/submitting-requests
    """
    return [_binding(bindings[str(number + 1)]) for number in range(len(bindings))]


def _binding(given: Mapping[str, Any]) -> object:
    kind, value = given["type"], given["value"]
    if value is None:
        return None
    if not isinstance(value, str):
        raise Failed("100037", "22018", "a value of a binding is no text")
    if kind == "FIXED":
        return int(value)
    if kind == "REAL":
        return float(value)
    if kind == "BOOLEAN":
        return value == "true"
    if kind == "BINARY":
        return bytes.fromhex(value)
    if kind == "DATE":
        return (_EPOCH + timedelta(milliseconds=int(value))).date()
    if kind == "TIME":
        return (_EPOCH + timedelta(microseconds=int(value) // 1000)).time()
    if kind == "TIMESTAMP_NTZ":
        return _EPOCH + timedelta(microseconds=int(value) // 1000)
    if kind in ("TIMESTAMP_LTZ", "TIMESTAMP_TZ"):
        nanoseconds = int(value.partition(" ")[0])
        moment = _EPOCH + timedelta(microseconds=nanoseconds // 1000)
        return moment.replace(tzinfo=timezone.utc)
    return value


def _said(kind: str, text: str) -> Result:
    return Result([("status", "text")], [[text]], kind=kind)


def _result(
    kind: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[object]]
) -> Result:
    counted = {"INSERT": "numRowsInserted", "UPDATE": "numRowsUpdated", "DELETE": "numRowsDeleted"}
    if kind in counted and rows:
        count = str(rows[0][0])
        names = ("numRowsInserted", "numRowsUpdated", "numRowsDeleted", "numDuplicateRowsUpdated")
        stats = dict.fromkeys(names, "0") | {counted[kind]: count}
        return Result([(f"number of rows {kind.lower()}ed", "fixed")], [[count]], stats, kind)
    if kind in ("CREATE", "DROP", "ALTER", "TRANSACTION", "COMMIT", "ROLLBACK") or not columns:
        return _said(kind, "Statement executed successfully.")
    shown = [(name.upper(), _type(of)) for name, of in columns]
    cells = [[_cell(value) for value in row] for row in rows]
    return Result(shown, cells, kind="SELECT")


def _type(of: str) -> str:
    name = of.upper()
    if name.startswith("TIMESTAMP"):
        return "timestamp_tz" if "TIME ZONE" in name else "timestamp_ntz"
    kinds = {"DOUBLE": "real", "FLOAT": "real", "BOOLEAN": "boolean", "DATE": "date"}
    if name.startswith(("DECIMAL", "BIGINT", "INTEGER", "HUGEINT", "UBIGINT", "SMALLINT", "TINY")):
        return "fixed"
    return kinds.get(name, "text")


def _cell(value: object) -> str | None:
    """https://docs.snowflake.com/en/developer-guide/sql-api/handling-responses"""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        zoned = value.tzinfo is not None
        moment = value.astimezone(timezone.utc).replace(tzinfo=None) if zoned else value
        microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
        text = f"{microseconds // 10**6}.{microseconds % 10**6:06}000"
        return f"{text} 1440" if zoned else text
    if isinstance(value, date):
        return str((value - _EPOCH.date()).days)
    if isinstance(value, bytes):
        return value.hex().upper()
    if isinstance(value, Decimal | int | float | str):
        return str(value)
    return str(value)


def _history_type(name: str) -> str:
    if name in ("START_TIME", "END_TIME"):
        return "TIMESTAMPTZ"
    if name == "CREDITS_USED_CLOUD_SERVICES":
        return "DOUBLE"
    return (
        "BIGINT"
        if name.endswith("_TIME") or name in ("BYTES_SCANNED", "ROWS_PRODUCED")
        else ("VARCHAR")
    )


def _failure(error: Exception) -> Failed:
    if isinstance(error, Failed):
        return error
    for kind, code, state in _ERRORS:
        if isinstance(error, kind):
            words = re.sub(r"\x1b\[\d+m", "", str(error))
            if code == "000604":
                words = "SQL execution canceled"
            elif code < "100000":
                words = f"SQL compilation error:\n{words}"
            return Failed(code, state, words)
    return Failed("100183", "P0000", str(error))
