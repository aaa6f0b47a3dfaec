"""Which files a declared input is.

Their names are names, never patterns: DuckDB would take `[1]`, `*` and `?` in them for a glob.
Where a name has such letters, DuckDB gets a link with a plain name. A link is also how columns
come from `name=value` folders: it repeats the folders below the input, and none above it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flyteagents_duckdb_job.access import Reader, Refused, local_path
from flyteagents_duckdb_job.directory import JobDirectory
from flyteagents_duckdb_job.stores import StoredInput, not_readable

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
PACKED = (".gz", ".zst")
_PLAIN = re.compile(r"[\w./=-]+")


@dataclass(frozen=True)
class InputFile:
    """A file of a declared input.

    path: how DuckDB reaches it. real: the file itself, without links.
    uri: what it is called outside. name: the last part of that.
    """

    path: Path
    real: Path
    uri: str
    name: str


class Inputs:
    """Finds the files of a job's declared inputs; those in a store are fetched first."""

    def __init__(
        self,
        description: dict[str, Any],
        reader: Reader,
        job: JobDirectory,
        say: Callable[[str], None],
    ) -> None:
        self._partitioned = description["partitioned"]
        self._reader = reader
        self._folder = job.work / "inputs"
        self._places = 0
        self._say = say

    def find(self, name: str, uris: list[str]) -> list[InputFile]:
        """The files of one input. Raises Refused."""
        if name in self._partitioned and "=" in str(self._folder):
            raise Refused(
                f"input {name!r}: folders cannot become columns, since the path of the data "
                f"directory, {self._folder}, has a = of its own; FLYTEAGENTS_DUCKDB_DATA_DIR "
                "must name another one"
            )

        files: list[InputFile] = []
        for uri in uris:
            place = self._folder / str(self._places)
            self._places += 1
            path = local_path(uri)
            if path is None:
                files += self._fetched(name, uri, place)
            else:
                files += self._local(name, uri, path, place)

        if not files:
            raise Refused(f"input {name!r}: there is no file at {', '.join(uris)}")
        return files

    def _local(self, name: str, uri: str, path: Path, place: Path) -> Iterator[InputFile]:
        root = Path(os.path.realpath(path))
        # The folder itself too, or what is there would show in the error.
        if not self._reader.may_read(root):
            raise not_readable(name, uri)

        found = [root] if root.is_file() else sorted(_below(root))
        if not found:
            raise Refused(f"input {name!r}: there is no file at {uri}")

        for number, file in enumerate(found):
            # Each file again: a link in a folder that is open may lead out of it.
            real = Path(os.path.realpath(file))
            if not self._reader.may_read(real):
                raise not_readable(name, uri)

            below = file.relative_to(root).parts if file != root else (file.name,)
            plain = _PLAIN.fullmatch(str(real)) is not None
            if plain and name not in self._partitioned:
                yield InputFile(path=real, real=real, uri=str(file), name=file.name)
                continue

            link = place / self._plain_name(name, below, number)
            link.parent.mkdir(parents=True, exist_ok=True)
            if "\\" in str(real):  # DuckDB follows the link, and then takes it for a /
                shutil.copyfile(real, link)
            else:
                link.symlink_to(real)
            yield InputFile(path=link, real=real, uri=str(file), name=file.name)

    def _fetched(self, name: str, uri: str, place: Path) -> Iterator[InputFile]:
        stored = StoredInput(name, uri, self._reader)
        self._say(f"fetching input {name} from {uri}")

        found = [(file, stored.relative(file)) for file in stored.files()]
        data = [(file, below) for file, below in found if not any(map(_hidden, below))]
        if not data:
            raise Refused(f"input {name!r}: there is no file at {uri}")

        for number, (file, below) in enumerate(data):
            copy = place / self._plain_name(name, below, number)
            stored.fetch(file, copy)
            yield InputFile(
                path=copy,
                real=copy,
                uri=stored.url(file),
                name=below[-1],
            )

    def _plain_name(self, name: str, below: tuple[str, ...], number: int) -> Path:
        """A name without letters that mean something to DuckDB, which keeps what does: the
        endings that tell the format, and `name=value` folders where they are asked for."""
        *folders, last = below
        kept = [part for part in folders if "=" in part] if name in self._partitioned else []
        endings = "".join(
            suffix for suffix in Path(last).suffixes if suffix.lower() in (*FORMATS, *PACKED)
        )
        return Path(*map(_escaped, kept), f"{number:05d}{endings}")


def format_of(name: str) -> str | None:
    """The format that a file's name tells; None where it tells none."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    while suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return FORMATS.get(suffixes[-1]) if suffixes else None


def _escaped(folder: str) -> str:
    """A folder's name as DuckDB reads it back: it decodes `%2A` in the values of partitions."""
    return re.sub(r"[*?\[\]\\]", lambda letter: f"%{ord(letter[0]):02X}", folder)


def _below(directory: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(directory):
        folders[:] = [each for each in folders if not _hidden(each)]
        yield from (Path(folder, each) for each in names if not _hidden(each))


def _hidden(name: str) -> bool:
    """Names with these marks are not data: Spark's _SUCCESS, drafts, records, version control."""
    return name.startswith((".", "_"))
