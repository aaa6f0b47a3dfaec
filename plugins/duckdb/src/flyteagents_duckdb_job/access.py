"""What a job may read and write."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from flyteagents_duckdb_job.directory import DataDirectory

STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "hdfs", "https", "http")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Refused(Exception):
    """The job can never work as it is asked for; the text is for the user."""


def local_path(uri: str) -> Path | None:
    """The absolute path that a path or `file://` URI means; None for other URIs."""
    if uri.startswith("/"):
        return Path(uri)
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return Path(unquote(parts.path))
    return None


def store_url(uri: str) -> str | None:
    """The scheme of an object store's URL; None for all else. A URL with `..`, or with `::`, by
    which fsspec chains file systems, names something else than it seems to, so it is none."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in STORES or "::" in uri or ".." in rest.split("/"):
        return None
    return scheme


def expand(prefixes: Sequence[str], project: str, domain: str) -> list[str]:
    """Prefixes for one tenant. One with a placeholder is closed to a tenant whose name is not a
    plain one, since it could lead elsewhere."""
    plain = all(_NAME.fullmatch(name) for name in (project, domain))
    return [
        prefix.replace("{project}", project).replace("{domain}", domain)
        for prefix in prefixes
        if plain or "{" not in prefix
    ]


def under(path: Path, prefixes: Sequence[str]) -> bool:
    """Whether a path, with its links followed, lies under one of the local prefixes."""
    return any(
        path.is_relative_to(os.path.realpath(prefix))
        for prefix in map(local_path, prefixes)
        if prefix is not None
    )


def open_directories(prefixes: Sequence[str], data: DataDirectory) -> list[str]:
    """The directories that the operator opened to the SQL itself. Raises Refused when one of
    them would open the jobs of all tenants."""
    directories = []
    home = Path(os.path.realpath(data.root))
    for prefix in prefixes:
        path = local_path(prefix)
        if path is None:
            continue
        real = Path(os.path.realpath(path))
        if home.is_relative_to(real) or real.is_relative_to(home):
            raise Refused(
                f"the operator opened {prefix}, which overlaps the data directory {home} with "
                "the jobs of all projects; FLYTEAGENTS_DUCKDB_OPEN_PREFIXES must name others"
            )
        directories.append(f"{real}/")
    return directories


def may_read(
    path: Path, prefixes: Sequence[str], data: DataDirectory, project: str, domain: str
) -> bool:
    """Whether a declared input may be at `path`, which has no links in it. What jobs wrote is
    their tenant's, wherever it lies; other files must be where the operator allows it."""
    home = Path(os.path.realpath(data.root))
    if path.is_relative_to(home):
        return path.is_relative_to(os.path.realpath(data.results_of(project, domain)))
    owner = data.owner(path)
    if owner is not None:
        return owner == (project, domain)
    return under(path, prefixes)
