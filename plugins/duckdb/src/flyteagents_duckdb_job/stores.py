"""Object stores, by fsspec where it is installed.

DuckDB has no network in a job: inputs are fetched before it starts, and results are sent when it
is done, both by the job's process. So here stands what a job may read of a store, beside how.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flyteagents_duckdb_job.access import Reader, Refused, store_url
from flyteagents_duckdb_job.ownership import (
    Owner,
    UnreadableRecord,
    content,
    read_record,
    record_of,
)

WEB = ("http", "https")
"""Where jobs cannot write, so that no record is looked for."""


def open_store(uri: str) -> tuple[Any, str]:
    """The fsspec file system of a URL and the path there; None where it is not installed."""
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(uri)
    except ImportError:
        return None, ""
    return system, path


class StoredInput:
    """A declared input in a store: one file, or all files below a folder.

    Raises Refused, also for what is there and another tenant's.
    """

    def __init__(self, name: str, uri: str, reader: Reader) -> None:
        self._name = name
        self._uri = uri
        self._reader = reader

        scheme = store_url(uri)
        if scheme is None:
            raise Refused(f"input {name!r}: {uri} is neither a path nor a URL of a known store")
        self._records = scheme not in WEB

        opened = reader.opened(uri)
        if not opened and not (self._records and reader.shares_bucket(uri)):
            raise not_readable(name, uri)

        self._system, path = open_store(uri)
        if self._system is None:
            raise Refused(
                f"input {name!r}: {uri} needs flyteagents-duckdb[fsspec] and a package "
                f"for {scheme}://; ask the operator to install them"
            )
        self._path = path.rstrip("/")

        # Before anything is listed: what is not this tenant's does not even show that it exists.
        if not opened and reader.owner not in self._owners_here():
            raise not_readable(name, uri)

    def files(self) -> list[str]:
        """The paths of the files in the store. They are names: no `*` in them is a pattern."""
        if not self._system.exists(self._path):
            raise Refused(f"input {self._name!r}: there is nothing at {self._uri}")

        whole = self._system.isdir(self._path)
        found = sorted(self._system.find(self._path)) if whole else [self._path]
        there = set(found)

        opened = self._reader.opened(self._uri)
        for folder in sorted({posixpath.dirname(each) for each in found}):
            # The records of folders below are in the list; for those at its edge we must ask.
            below = whole and folder.startswith(f"{self._path}/")
            known_to_have_none = below and record_of(folder) not in there
            owner = None if known_to_have_none else self._owner(folder)

            if owner != self._reader.owner and (owner is not None or not opened):
                raise not_readable(self._name, self._uri)
        return found

    def relative(self, file: str) -> tuple[str, ...]:
        """The parts of a file's path below the input's own; its name alone where it is one."""
        below = file.removeprefix(f"{self._path}/") if file != self._path else ""
        return tuple((below or posixpath.basename(file)).split("/"))

    def url(self, file: str) -> str:
        """What a file is called outside."""
        if file == self._path:
            return self._uri
        return f"{self._uri.rstrip('/')}/{'/'.join(self.relative(file))}"

    def fetch(self, file: str, to: Path) -> None:
        """Copy one file here."""
        to.parent.mkdir(parents=True, exist_ok=True)
        self._system.get_file(file, str(to))

    def _owners_here(self) -> set[Owner | None]:
        return {self._owner(self._path), self._owner(posixpath.dirname(self._path))}

    def _owner(self, folder: str) -> Owner | None:
        if not self._records:
            return None
        try:
            return read_record(record_of(folder), self._system.cat_file)
        except UnreadableRecord as error:
            raise Refused(
                f"input {self._name!r}: whose result {self._uri} is cannot be read: {error}"
            ) from error


def not_readable(name: str, uri: str) -> Refused:
    """The refusal of an input that is another tenant's, or where nothing is open."""
    return Refused(
        f"input {name!r}: {uri} is not one of this project's and domain's results, and not under "
        "a prefix that the operator opened; FLYTEAGENTS_DUCKDB_INPUT_PREFIXES opens more"
    )


def send(file: Path, url: str, key: str, owner: Owner, say: Callable[[str], None]) -> str:
    """Send a result's file to a folder in a store, with a record of its owner; the folder's URL,
    which is another one where something is there already."""
    system, path = open_store(url)
    path = path.rstrip("/")
    if system.exists(path):
        url, path = (f"{each.rstrip('/')}-{key[:12]}" for each in (url, path))
    say(f"sending the result to {url}")

    system.makedirs(path, exist_ok=True)
    system.pipe_file(record_of(path), content(owner))  # before the result can be seen
    system.put_file(str(file), f"{path}/{file.name}")
    return url


def remove(url: str) -> None:
    """Remove a result that was sent and must not stay."""
    system, path = open_store(url)
    for each in (path, record_of(path)):
        system.rm(each, recursive=True)
