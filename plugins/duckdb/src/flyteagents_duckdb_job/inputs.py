"""Declared inputs as tables of their names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flyteagents_duckdb_job.access import Refused, local_path, may_read, store_url
from flyteagents_duckdb_job.directory import DataDirectory, JobDirectory

READERS = {
    "parquet": "read_parquet({files}, union_by_name = true)",
    "csv": "read_csv({files}, union_by_name = true{options})",
    "json": "read_json({files}, union_by_name = true)",
}
FORMATS = {
    ".parquet": "parquet", ".pq": "parquet",
    ".csv": "csv", ".tsv": "csv", ".txt": "csv",
    ".json": "json", ".jsonl": "json", ".ndjson": "json",
}  # fmt: skip
PACKED = (".gz", ".zst")


def find_files(
    name: str,
    table: dict[str, Any],
    description: dict[str, Any],
    data: DataDirectory,
    job: JobDirectory,
    say: Callable[[str], None],
) -> list[Path]:
    """The files of one declared input; those in a store are fetched first. Raises Refused."""
    files: list[Path] = []
    for number, uri in enumerate(table["uris"]):
        path = local_path(uri)
        if path is None:
            copy = job.work / "inputs" / name / str(number)
            _fetch(name, uri, copy, description["readable"], say)
            files += _listed(name, uri, copy)
            continue
        real = Path(os.path.realpath(path))
        _check(name, uri, real, description, data)  # or what is there would show in the error
        for found in _listed(name, uri, real):
            file = Path(os.path.realpath(found))
            _check(name, uri, file, description, data)
            files.append(file)
    return files


def view(name: str, table: dict[str, Any], files: list[Path], csv_null: str | None) -> str:
    """The statement that makes a declared input a table. Raises Refused for unknown formats."""
    kind = table["format"] or _format(files[0])
    if kind not in READERS:
        raise Refused(
            f"input {name!r}: the format of {files[0].name} is not known; the type of the input, "
            "or the file's name, must say parquet, csv or json"
        )
    options = "" if csv_null is None else f", nullstr = ['', {quoted(csv_null)}]"
    source = READERS[kind].format(
        files="[" + ", ".join(quoted(str(file)) for file in files) + "]", options=options
    )
    identifier = '"' + name.replace('"', '""') + '"'
    return f"CREATE TEMP VIEW {identifier} AS FROM {source}"


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _check(
    name: str, uri: str, path: Path, description: dict[str, Any], data: DataDirectory
) -> None:
    project, domain = description["project"], description["domain"]
    if not may_read(path, description["readable"], data, project, domain):
        raise _closed(name, uri)


def _closed(name: str, uri: str) -> Refused:
    return Refused(
        f"input {name!r}: {uri} is not one of this project's and domain's results, and not under "
        "a prefix that the operator opened; FLYTEAGENTS_DUCKDB_INPUT_PREFIXES opens more"
    )


def _listed(name: str, uri: str, path: Path) -> list[Path]:
    """The file itself, or those in and below the directory that have data in them."""
    if path.is_file():
        return [path]
    files = sorted(_below(path))
    if not files:
        raise Refused(f"input {name!r}: there is no file at {uri}")
    return files


def _below(directory: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(directory):
        # Names with these marks are not data: Spark's _SUCCESS, drafts, version control.
        folders[:] = [each for each in folders if not each.startswith((".", "_"))]
        yield from (Path(folder, each) for each in names if not each.startswith((".", "_")))


def _format(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return FORMATS.get(suffixes[-1]) if suffixes else None


def _fetch(
    name: str, uri: str, copy: Path, readable: list[str], say: Callable[[str], None]
) -> None:
    scheme = store_url(uri)
    if scheme is None:
        raise Refused(f"input {name!r}: {uri} is neither a path nor a URL of a known store")
    prefixes = [prefix for prefix in readable if local_path(prefix) is None]
    if not any(uri.startswith(prefix.rstrip("/") + "/") for prefix in prefixes):
        raise _closed(name, uri)
    system, path = open_store(uri)
    if system is None:
        raise Refused(f"input {name!r}: {uri} needs flyteagents-duckdb[fsspec] and a package "
                      f"for {scheme}://; ask the operator to install them")  # fmt: skip
    say(f"fetching input {name} from {uri}")
    if not system.exists(path):
        raise Refused(f"input {name!r}: there is nothing at {uri}")
    if system.isdir(path):
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(parents=True)
        system.get(path.rstrip("/") + "/", f"{copy}/", recursive=True)
    else:
        copy.mkdir(parents=True, exist_ok=True)
        system.get_file(path, str(copy / path.rstrip("/").rpartition("/")[2]))


def open_store(uri: str) -> tuple[Any, str]:
    """The fsspec file system of a URL and the path there; None where it is not installed."""
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(uri)
    except ImportError:
        return None, ""
    return system, path
