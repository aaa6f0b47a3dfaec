"""Whose result a folder is.

Flyte's output prefixes do not say it: Flyte 2 begins them with a shard
(`s3://bucket/ju/org/project/...`), and an operator may open a whole bucket. So each result that
lies outside of the data directory has a record beside it, made before the result can be seen:
`<prefix>/.<output>.flyteagents.json` for the files in `<prefix>/<output>/`. It is beside the
folder, not in it, since some readers take every file in a folder for data.

The record of a folder counts for the files directly in it, and a job's result has no others.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """A tenant: a project and a domain of Flyte's."""

    project: str
    domain: str


class UnreadableRecord(Exception):
    """A record that is there, and cannot be read."""


def record_of(folder: str) -> str:
    """Where the record of a result's folder is, for paths and for names in a store."""
    parent, slash, name = folder.rstrip("/").rpartition("/")
    return f"{parent}{slash}.{name}.flyteagents.json"


def content(owner: Owner) -> bytes:
    """A record as it is written."""
    return json.dumps({"project": owner.project, "domain": owner.domain}).encode()


def write_record(folder: Path, owner: Owner) -> None:
    """Say whose the local folder is; in one step, and not by a hard link, which not every file
    system under an output prefix has. Raises OSError."""
    record = Path(record_of(str(folder)))
    draft = record.with_name(f"{record.name}.{secrets.token_hex(6)}")
    try:
        draft.write_bytes(content(owner))
        draft.replace(record)
    finally:
        draft.unlink(missing_ok=True)


def owner_of(folder: Path) -> Owner | None:
    """The owner of a local folder; None where no job wrote it. Raises UnreadableRecord."""
    return read_record(record_of(str(folder)), lambda record: Path(record).read_bytes())


def read_record(record: str, read: Callable[[str], bytes]) -> Owner | None:
    """The owner that a record names; None where there is no record.

    Raises UnreadableRecord: what cannot be told must not be taken for nobody's.
    """
    try:
        said = json.loads(read(record))
        return Owner(project=str(said["project"]), domain=str(said["domain"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableRecord(f"{record}: {str(error) or type(error).__name__}") from error
