"""Where a job's result goes, and what is said of it.

A result is made where nobody looks for it, and becomes visible in one step; nothing that is there
is overwritten. Its rows are read once, also where they become a table and scalar outputs, so that
a query whose answer changes from one time to the next gives one.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from flyteagents_duckdb_job import columns, stores
from flyteagents_duckdb_job.access import Refused, local_path, store_url, under
from flyteagents_duckdb_job.directory import DataDirectory, JobDirectory
from flyteagents_duckdb_job.ownership import Owner, record_of, write_record
from flyteagents_duckdb_job.statements import Statement
from flyteagents_duckdb_job.views import identifier, quoted

FILE = "00000.parquet"
UNWRITABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.ENOENT,
)
"""What says that an output prefix is not for us, and not that something is wrong with it now."""

RESULT = "flyteagents_result"
"""The temporary table that a result with scalar outputs goes through."""


@dataclass
class Destination:
    """Where the table goes: made in `draft`, then moved to `final` or sent to `url`.

    recorded: whether a record must say whose it is, since its place does not.
    """

    draft: Path
    final: Path | None = None
    url: str | None = None
    recorded: bool = False

    @property
    def file(self) -> Path:
        return self.draft / FILE


def choose_destination(
    description: dict[str, Any], data: DataDirectory, job: JobDirectory, say: Callable[[str], None]
) -> Destination:
    """Under the output prefix where that is a directory we may write to, or a store's URL that
    fsspec can write to; else in the data directory."""
    prefix = description["output_prefix"]
    name = description["outputs"]["table"]["name"]
    path = local_path(prefix)

    if path is not None:
        found = _under_prefix(Path(os.path.realpath(path)), name, description, data, job, say)
        if found is not None:
            return found
    elif store_url(prefix) is not None:
        if stores.open_store(prefix)[0] is not None:
            draft = job.work / "result"
            draft.mkdir(exist_ok=True)
            return Destination(draft, url=f"{prefix.rstrip('/')}/{name}", recorded=True)
        say(f"no fsspec file system for {prefix} is installed")

    final = data.results_of(description["project"], description["domain"]) / job.key
    final.parent.mkdir(parents=True, exist_ok=True)
    draft = job.work / "result"
    draft.mkdir(exist_ok=True)
    say(f"the result goes to the data directory: {final}")
    return Destination(draft, final=_free(final, job.key))


def _under_prefix(
    prefix: Path,
    name: str,
    description: dict[str, Any],
    data: DataDirectory,
    job: JobDirectory,
    say: Callable[[str], None],
) -> Destination | None:
    """A place under a local output prefix; None where we may not write to it."""
    allowed = description["output_prefixes"]
    # The prefix comes with the request, and the data directory has the jobs of all tenants.
    inside = prefix.is_relative_to(os.path.realpath(data.root))
    if inside or (allowed and not under(prefix, allowed)):
        say(f"the operator's settings do not let results go to {prefix}")
        return None

    # Beside its final place: a rename works within one file system only.
    draft = prefix / f".{name}.{job.key[:12]}"
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        say(f"the output prefix cannot be written to ({error.strerror})")
        return None
    return Destination(draft, final=_free(prefix / name, job.key), recorded=True)


@dataclass(frozen=True)
class Source:
    """The rows of a result: a statement of the task's, or the table that they went through.

    columns: name and DuckDB type of each column.
    """

    connection: Any
    bound: dict[str, Any]
    columns: Sequence[tuple[str, Any]]
    statement: Statement | None = None

    @classmethod
    def of(cls, connection: Any, statement: Statement, bound: dict[str, Any]) -> Source:
        """The rows of a statement, which does not run yet."""
        described = statement.run(connection, bound, "FROM (", ") LIMIT 0").description
        return cls(connection, bound, _columns(described), statement)

    @classmethod
    def stored(cls, connection: Any, statement: Statement, bound: dict[str, Any]) -> Source:
        """The rows of a statement that is run now, once, into a table."""
        statement.run(connection, bound, f"CREATE TEMP TABLE {RESULT} AS", ";")
        described = connection.execute(f"FROM {RESULT} LIMIT 0").description
        return cls(connection, {}, _columns(described))

    def count(self) -> int:
        """How many rows the table has."""
        counted = self.connection.execute(f"SELECT count(*) FROM {RESULT}")  # noqa: S608 # ours
        return int(counted.fetchone()[0])

    def run(self, opening: str, closing: str) -> Any:
        """Execute `opening FROM <the rows> AS r(c0, c1, ...) closing`."""
        # By number: two columns of a query may have the same name.
        names = ", ".join(f"c{number}" for number in range(len(self.columns)))
        if self.statement is None:
            return self.connection.execute(f"{opening} FROM {RESULT} AS r({names}) {closing}")
        return self.statement.run(
            self.connection,
            self.bound,
            opening=f"{opening} FROM (",
            closing=f") AS r({names}) {closing}",
        )


def write_table(
    source: Source, declared: Sequence[dict[str, Any]], to: Destination
) -> tuple[int, list[dict[str, Any]]]:
    """Write the rows as Parquet; how many there were, and the columns with their Flyte types.
    Raises Refused where the columns are not those that the task declares."""
    types = {column["name"]: column["type"] for column in declared}
    _check_names(list(types), source)

    fits = []
    selected = []
    for number, (name, kind) in enumerate(source.columns):
        wanted = columns.fit(kind, types.get(name))
        if wanted is None:
            raise columns.misfit(name, kind, types[name])
        sql = columns.select(f"c{number}", name, kind, wanted)
        selected.append(f"{sql} AS {identifier(name)}")
        fits.append({"name": name, "type": wanted.type})

    cursor = source.run(
        opening=f"COPY (SELECT {', '.join(selected)}",
        closing=f") TO {quoted(str(to.file))} (FORMAT parquet, COMPRESSION zstd)",
    )
    return int(cursor.fetchone()[0]), fits


def publish(
    to: Destination, description: dict[str, Any], key: str, say: Callable[[str], None]
) -> tuple[str, str]:
    """Make the written table visible; its directory's URI and its file's."""
    owner = Owner(project=description["project"], domain=description["domain"])
    if to.url is not None:
        url = stores.send(to.file, to.url, key, owner, say)
        return url, f"{url}/{FILE}"

    assert to.final is not None
    if to.recorded:  # before it can be seen, so that no other tenant's job ever reads it
        write_record(to.final, owner)
    to.draft.rename(to.final)
    return str(to.final), str(to.final / FILE)


def discard(uri: str) -> None:
    """Remove the result of a job that somebody else gave up."""
    if local_path(uri) is None:
        stores.remove(uri)
        return
    shutil.rmtree(uri, ignore_errors=True)
    with suppress(OSError):
        Path(record_of(uri)).unlink(missing_ok=True)


def single_row(source: Source, scalars: dict[str, columns.Packed]) -> dict[str, object]:
    """The scalar outputs out of the one row of a stored result. Raises Refused."""
    rows = source.count()
    if rows != 1:
        raise Refused(
            f"the query returned {rows} rows; the outputs {', '.join(scalars)} need one row"
        )

    selected = []
    for output, declared in scalars.items():
        number = _column_for(output, source, alone=len(scalars) == 1)
        name, kind = source.columns[number]
        wanted = columns.fit_scalar(kind, declared)
        if wanted is None:
            raise columns.misfit(name, kind, declared)
        selected.append(columns.select(f"c{number}", name, kind, wanted))

    row = source.run(f"SELECT {', '.join(selected)}", "").fetchone()
    return {
        output: _output(value, scalars[output]) for output, value in zip(scalars, row, strict=True)
    }


def _column_for(output: str, source: Source, alone: bool) -> int:
    """The number of the column that an output comes from: the one of its name, also in other
    letters; or, for a single output, a single column."""
    names = [name for name, _ in source.columns]
    if output in names:
        return names.index(output)

    folded = [name.casefold() for name in names]
    if output.casefold() in folded:
        return folded.index(output.casefold())
    if alone and len(names) == 1:
        return 0
    raise Refused(
        f"the query has no column for the output {output!r}; its columns are {', '.join(names)}"
    )


def _check_names(declared: Sequence[str], source: Source) -> None:
    there = [name for name, _ in source.columns]
    missing = [name for name in declared if name not in there]
    if missing:
        raise Refused(
            f"the task declares the columns {', '.join(missing)}, which the result does not have; "
            f"it has {', '.join(there)}"
        )


def _columns(described: Sequence[Any]) -> list[tuple[str, Any]]:
    return [(name, kind) for name, kind, *_ in described]


def _output(value: Any, declared: columns.Packed) -> object:
    """A value as the output has it; its column is of the declared type already."""
    if isinstance(value, time) and declared["kind"] in ("duration", "union"):
        return datetime.combine(datetime.min, value) - datetime.min  # noqa: DTZ901
    if isinstance(value, str) and declared["kind"] == "struct":
        return json.loads(value)
    return _plain(value)


def _plain(value: Any) -> object:
    """What is inside a struct, or declared as nothing, in Python's own types."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, time):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _free(path: Path, key: str) -> Path:
    """`path`, or one beside it when another job's result is there."""
    return path.with_name(f"{path.name}-{key[:12]}") if path.exists() else path
