"""A DuckDB connection that reaches the job's own files and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
from flyteagents_duckdb_job.views import literal, quoted


def connect(
    *,
    threads: int,
    memory: int,
    spill: int,
    work: str,
    directories: Sequence[str],
    files: Sequence[str],
) -> Any:
    """A connection to a database in memory that spills to `work`. The SQL can read and write
    below `directories` and read `files`; no network, no extensions, no settings.

    DuckDB would let it write to `files` too: `statements.check_target` does not.
    """
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
        "allowed_directories": literal([f"{work}/", *directories]),
        "allowed_paths": literal(files),
        "enable_external_access": "false",  # refuses the two above from now on
        "lock_configuration": "true",
    }
    for name, value in settings.items():
        connection.execute(f"SET {name} = {value}")
    return connection
