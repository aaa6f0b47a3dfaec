"""The files of a declared input as a table of the input's name.

DuckDB guesses much of a file: its format, partitions, the types of a CSV. What it may guess and
what the task decides is settled here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
from flyteagents_duckdb_job.access import Refused
from flyteagents_duckdb_job.inputs import InputFile, format_of

READERS = {"parquet": "read_parquet", "csv": "read_csv", "json": "read_json"}


class Views:
    """Makes the tables of a job's declared inputs.

    description: `csv` is what the task's config says of its CSV files: `null`, `types` (column to
    DuckDB type), `encoding`, `delimiter`.
    """

    def __init__(self, connection: Any, description: dict[str, Any]) -> None:
        self._connection = connection
        self._csv = description["csv"]
        self._partitioned = description["partitioned"]
        self._csv_columns: set[str] = set()

    def make(self, name: str, table: dict[str, Any], files: Sequence[InputFile]) -> None:
        """Make one table. Raises Refused for unknown formats, and DuckDB's errors."""
        kind = table["format"] or format_of(files[0].name)
        if kind not in READERS:
            raise Refused(
                f"input {name!r}: the format of {files[0].name} is not known; the type of the "
                "input, or the file's name, must say parquet, csv or json"
            )

        paths = literal([str(file.path) for file in files])
        options = {
            # Else DuckDB refuses an input of which a file lacks a column that the first one has.
            "union_by_name": "true",
            # DuckDB takes any `name=value` folder for a column that nobody asked for, and puts it
            # in the place of the file's own column of that name.
            "hive_partitioning": "true" if name in self._partitioned else "false",
        }
        if kind == "csv":
            options |= self._csv_options()
            types = self._csv_types(name, paths, options, table["columns"])
            if types:
                options["types"] = types

        source = _call(READERS[kind], paths, options)
        self._execute(name, f"CREATE TEMP VIEW {identifier(name)} AS FROM {source}")

    def check_all_used(self) -> None:
        """Raises Refused for a column that the config types and no CSV file has."""
        known = {column.casefold() for column in self._csv_columns}
        for column in self._csv["types"]:
            if column.casefold() not in known:
                there = ", ".join(sorted(self._csv_columns)) or "none"
                raise Refused(
                    f"csv_types in the task's config names the column {column!r}, and the columns "
                    f"of its CSV inputs are: {there}"
                )

    def _csv_options(self) -> dict[str, str]:
        options = {}
        if self._csv["null"] is not None:
            options["nullstr"] = literal(["", self._csv["null"]])
        if self._csv["encoding"] is not None:
            options["encoding"] = quoted(self._csv["encoding"])
        if self._csv["delimiter"] is not None:
            options["delim"] = quoted(self._csv["delimiter"])
        return options

    def _csv_types(
        self, name: str, paths: str, options: dict[str, str], declared: Mapping[str, str]
    ) -> str:
        """The types that the task gives to columns of this input, as SQL: those of its config
        before those that the input is declared with."""
        if not (self._csv["types"] or declared):
            return ""

        # DuckDB refuses the type of a column that is not there, and other inputs may have it.
        header = _call("read_csv", paths, {**options, "all_varchar": "true"})
        described = self._execute(name, f"FROM {header} LIMIT 0").description
        columns = [column for column, *_ in described]
        self._csv_columns.update(columns)

        given = {**declared, **self._csv["types"]}
        folded = {column.casefold(): kind for column, kind in given.items()}
        typed = [
            f"{quoted(column)}: {quoted(folded[column.casefold()])}"
            for column in columns
            if column.casefold() in folded
        ]
        return "{" + ", ".join(typed) + "}" if typed else ""

    def _execute(self, name: str, sql: str) -> Any:
        """Run our own SQL. Its lines are not the author's, so an error shows none of them."""
        try:
            return self._connection.execute(sql)
        except duckdb.Error as error:
            said = str(error).partition("\n\nLINE ")[0]
            raise type(error)(f"input {name!r}: {said}") from error


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(texts: Sequence[str]) -> str:
    """A list of texts as an SQL literal."""
    return "[" + ", ".join(map(quoted, texts)) + "]"


def _call(reader: str, paths: str, options: Mapping[str, str]) -> str:
    given = "".join(f", {name} = {value}" for name, value in options.items())
    return f"{reader}({paths}{given})"
