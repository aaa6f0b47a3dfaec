"""Where a job's result goes, and what is said of it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from flyteagents_duckdb_job.access import Refused, local_path, store_url, under
from flyteagents_duckdb_job.directory import DataDirectory, JobDirectory
from flyteagents_duckdb_job.inputs import open_store, quoted

FILE = "00000.parquet"
UNWRITABLE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.ENOENT,
)  # fmt: skip

_KINDS = {
    "boolean": "boolean",
    **dict.fromkeys(
        ("tinyint", "smallint", "integer", "bigint", "hugeint", "utinyint", "usmallint",
         "uinteger", "ubigint", "uhugeint"), "integer"),
    **dict.fromkeys(("float", "double", "decimal"), "float"),
    **dict.fromkeys(("varchar", "uuid", "enum", "bit", "json"), "string"),
    **dict.fromkeys(("date", "timestamp", "timestamp with time zone", "timestamp_s",
                     "timestamp_ms", "timestamp_ns"), "datetime"),
    **dict.fromkeys(("interval", "time", "time with time zone"), "duration"),
    "blob": "binary",
    "struct": "struct",
    "union": "struct",
}  # fmt: skip


@dataclass
class Destination:
    """Where the table goes: made in `draft`, then moved to `final` or sent to `url`."""

    draft: Path
    final: Path | None = None
    url: str | None = None
    foreign: bool = False

    @property
    def file(self) -> Path:
        return self.draft / FILE


def choose_destination(
    description: dict[str, Any], data: DataDirectory, job: JobDirectory, say: Callable[[str], None]
) -> Destination:
    """Under the output prefix where that is a directory we may write to, or a store's URL that
    fsspec can write to; else in the data directory."""
    prefix, name = description["output_prefix"], description["outputs"]["table"]["name"]
    path = local_path(prefix)
    if path is not None:
        real, allowed = Path(os.path.realpath(path)), description["output_prefixes"]
        if real.is_relative_to(os.path.realpath(data.root)) or (
            allowed and not under(real, allowed)
        ):
            say(f"the operator's settings do not let results go to {prefix}")
        else:
            draft = real / f".{name}.{job.key[:12]}"
            try:
                shutil.rmtree(draft, ignore_errors=True)
                draft.mkdir(parents=True)
            except OSError as error:
                if error.errno not in UNWRITABLE:
                    raise
                say(f"the output prefix cannot be written to ({error.strerror})")
            else:
                return Destination(draft, _free(real / name, job.key), foreign=True)
    elif store_url(prefix) is not None:
        if open_store(prefix)[0] is not None:
            draft = job.work / "result"
            draft.mkdir(exist_ok=True)
            return Destination(draft, url=f"{prefix.rstrip('/')}/{name}")
        say(f"no fsspec file system for {prefix} is installed")
    final = data.results_of(description["project"], description["domain"]) / job.key
    final.parent.mkdir(parents=True, exist_ok=True)
    draft = job.work / "result"
    draft.mkdir(exist_ok=True)
    say(f"the result goes to the data directory: {final}")
    return Destination(draft, _free(final, job.key))


def write_table(connection: Any, select: str, parameters: dict[str, Any], to: Destination) -> int:
    """Write the rows of a query as Parquet; how many there were."""
    cursor = connection.execute(
        f"COPY (\n{select}\n) TO {quoted(str(to.file))} (FORMAT parquet, COMPRESSION zstd)",
        parameters,
    )
    return int(cursor.fetchone()[0])


def columns_of(connection: Any, file: Path) -> list[dict[str, Any]]:
    """The columns of a Parquet file and their Flyte types."""
    described = connection.execute(f"FROM read_parquet({quoted(str(file))}) LIMIT 0").description
    return [{"name": name, "type": flyte_type(kind)} for name, kind, *_ in described]


def flyte_type(kind: Any) -> dict[str, Any]:
    """The Flyte type of a DuckDB type: its kind, and `of` for what is inside."""
    name = kind.id
    if name in ("list", "array"):
        return {"kind": "collection", "of": flyte_type(kind.children[0][1])}
    if name == "map":
        key, value = (part[1] for part in kind.children)
        if key.id == "varchar":
            return {"kind": "map", "of": flyte_type(value)}
        return {"kind": "struct"}
    return {"kind": _KINDS.get(name, "string")}


def publish(
    to: Destination, description: dict[str, Any], data: DataDirectory, say: Callable[[str], None]
) -> tuple[str, str]:
    """Make the written table visible; its directory's URI and its file's."""
    if to.url is not None:
        say(f"sending the result to {to.url}")
        system, path = open_store(to.url)
        system.makedirs(path, exist_ok=True)
        system.put_file(str(to.file), f"{path}/{FILE}")
        return to.url, f"{to.url}/{FILE}"
    assert to.final is not None
    if to.foreign:  # noted before it can be seen, so that no other tenant's job ever reads it
        data.own(to.final, description["project"], description["domain"])
    to.draft.rename(to.final)
    return str(to.final), str(to.final / FILE)


def single_row(connection: Any, scalars: dict[str, str]) -> dict[str, object]:
    """The scalar outputs out of the one row of `flyteagents_result`, the temporary table that a
    result with scalar outputs goes through. Raises Refused."""
    rows = connection.execute("SELECT count(*) FROM flyteagents_result").fetchone()[0]
    described = connection.execute("SELECT * FROM flyteagents_result LIMIT 0").description
    columns = {name: str(kind) for name, kind, *_ in described}
    if rows != 1:
        raise Refused(
            f"the query returned {rows} rows; the outputs {', '.join(scalars)} need one row"
        )
    folded = {column.lower(): column for column in columns}
    source: dict[str, str] = {}
    for output in scalars:
        if output in columns or output.lower() in folded:
            source[output] = output if output in columns else folded[output.lower()]
        elif len(scalars) == len(columns) == 1:
            source[output] = next(iter(columns))
        else:
            raise Refused(
                f"the query has no column for the output {output!r}; its columns are "
                + ", ".join(columns)
            )
    picked = [_readable(column, columns[column]) for column in source.values()]
    row = connection.execute(f"FROM flyteagents_result SELECT {', '.join(picked)}").fetchone()
    return {
        output: _plain(value, scalars[output]) for output, value in zip(source, row, strict=True)
    }


def _readable(column: str, kind: str) -> str:
    """The column as SQL. Times with a zone are read without, in the session's zone, which is
    UTC: in Python they would need a package for zones."""
    identifier = '"' + column.replace('"', '""') + '"'
    if "TIMESTAMP WITH TIME ZONE" not in kind:
        return identifier
    return f"CAST({identifier} AS {kind.replace('TIMESTAMP WITH TIME ZONE', 'TIMESTAMP')})"


def _plain(value: Any, kind: str) -> object:
    """A value of DuckDB's as the declared kind has it, as far as there is no doubt."""
    if isinstance(value, Decimal):
        if kind == "string":
            return str(value)
        whole = value == value.to_integral_value()
        return int(value) if whole and kind != "float" else float(value)
    if isinstance(value, float) and kind == "integer" and value.is_integer():
        return int(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, time):
        if kind != "duration":
            return value.isoformat()
        return datetime.combine(datetime.min, value.replace(tzinfo=None)) - datetime.min  # noqa: DTZ901
    if isinstance(value, str) and kind == "struct":
        try:
            return json.loads(value)
        except ValueError:
            return value
    if isinstance(value, dict):
        return {key: _plain(item, "") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, "") for item in value]
    if isinstance(value, timedelta) and kind == "string":
        return str(value)
    return value


def _free(path: Path, key: str) -> Path:
    """`path`, or one beside it when another job's result is there."""
    return path.with_name(f"{path.name}-{key[:12]}") if path.exists() else path
