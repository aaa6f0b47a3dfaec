"""A DuckDB connection that reaches the job's own files and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
from flyteagents_duckdb_job.access import Refused
from flyteagents_duckdb_job.inputs import quoted

ALLOWED = (
    "SELECT", "MULTI", "CREATE", "DROP", "ALTER", "INSERT", "UPDATE", "DELETE", "MERGE_INTO",
    "COPY",
)  # fmt: skip
"""Statements that work on the job's own tables. MULTI is what PIVOT becomes. The others change
settings, load code or leave the database; DuckDB's lock refuses most of them as well."""
ROWS = ("SELECT", "MULTI")


def connect(
    *, threads: int, memory: int, spill: int, work: str, directories: Sequence[str],
    files: Sequence[str],
) -> Any:  # fmt: skip
    """A connection to a database in memory that spills to `work`. The SQL can read and write
    below `directories` and read `files`; no network, no extensions, no settings."""
    connection = duckdb.connect(
        ":memory:",
        config={"threads": str(threads), "memory_limit": f"{max(memory >> 20, 1)}MiB"},
    )
    settings = {
        "temp_directory": quoted(f"{work}/spill"),
        "max_temp_directory_size": f"'{max(spill >> 20, 1)}MiB'",
        "extension_directory": quoted(f"{work}/none"),
        "secret_directory": quoted(f"{work}/none"),
        # Else a table name would find the variables of the Python code that runs the query.
        "python_enable_replacements": "false",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        # On, unseen and at once: without all three there is no progress to ask for.
        "enable_progress_bar": "true",
        "enable_progress_bar_print": "false",
        "progress_bar_time": "0",
        # Not an option of `connect`, which knows no time zones before icu is there.
        "TimeZone": "'UTC'",
        "allowed_directories": _listed([f"{work}/", *directories]),
        "allowed_paths": _listed(files),
        "enable_external_access": "false",  # refuses the two above from now on
        "lock_configuration": "true",
    }
    for name, value in settings.items():
        connection.execute(f"SET {name} = {value}")
    return connection


def statements(connection: Any, sql: str) -> list[Any]:
    """The statements of the task's SQL. Raises Refused for those that do not belong in a job."""
    found = connection.extract_statements(sql)
    if not found:
        raise Refused("the statement is empty")
    for statement in found:
        if kind(statement) not in ALLOWED:
            raise Refused(
                f"{kind(statement)} statements are not allowed: a job works on its inputs and its "
                "own tables, and its settings are the operator's"
            )
        if not _has_text(statement):
            raise Refused(
                "this version of DuckDB runs PIVOT in a job only where its values are named: "
                "PIVOT ... ON column IN (...)"
            )
    return list(found)


def kind(statement: Any) -> str:
    """The name of a statement's type."""
    name: str = statement.type.name
    return name


def text_of(statement: Any) -> str:
    """A statement's SQL without the semicolon that ends it, which a comment may follow."""
    text = statement.query.encode()
    end = len(text)
    for offset, token in reversed(duckdb.tokenize(text.decode())):
        if token == duckdb.token_type.comment:
            continue
        if text[offset : offset + 1] != b";":
            break
        end = offset
    return str(text[:end].decode().strip())


def _has_text(statement: Any) -> bool:
    """Before 2.0, DuckDB puts statements of its own before a PIVOT whose values are not named,
    and has no text for any of them."""
    try:
        return bool(statement.query.strip())
    except IndexError:
        return False


def _listed(paths: Sequence[str]) -> str:
    return "[" + ", ".join(map(quoted, paths)) + "]"
