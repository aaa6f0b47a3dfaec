"""What a job may read and write.

A job runs with the server's rights, and DuckDB is told which files it may open. Which those are is
decided here and nowhere else: by the tenant, by what the operator opened, and by whose result a
file is. All paths are compared with their links followed, and a URI that means something else than
it seems to means nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from flyteagents_duckdb_job.directory import DataDirectory
from flyteagents_duckdb_job.ownership import Owner, UnreadableRecord, owner_of

STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "hdfs", "https", "http")
"""Schemes of URLs that are given to fsspec. A job's process has nothing of the server's, and so a
list of its own: a test holds it to the stores that the server knows."""
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
    """The scheme of an object store's URL; None for all else.

    A URL with `..`, or with `::`, by which fsspec chains file systems, names something else than
    it seems to, so it is none. Spelled `%2e%2e` it is `..` too: an HTTP client resolves it.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in STORES:
        return None
    if "::" in uri or ".." in unquote(rest).split("/"):
        return None
    return scheme


def bucket_of(uri: str) -> str:
    """The part of a store's URL that says which store and which bucket."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


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


@dataclass(frozen=True)
class Reader:
    """The tenant of one job, and what it may read.

    prefixes: paths and URLs under which declared inputs may be.
    output_prefix: where this job's results go; results in the same bucket may be its tenant's.
    """

    owner: Owner
    prefixes: Sequence[str]
    output_prefix: str
    data: DataDirectory

    @classmethod
    def of(cls, description: dict[str, Any], data: DataDirectory) -> Reader:
        """The reader that a job's description makes it."""
        return cls(
            owner=Owner(project=description["project"], domain=description["domain"]),
            prefixes=description["readable"],
            output_prefix=description["output_prefix"],
            data=data,
        )

    def may_read(self, path: Path) -> bool:
        """Whether a declared input may be at `path`, a local file or folder without links in it.

        What jobs wrote is their tenant's, wherever it lies; all else must be where the operator
        allows it.
        """
        home = Path(os.path.realpath(self.data.root))
        if path.is_relative_to(home):
            mine = self.data.results_of(self.owner.project, self.owner.domain)
            return path.is_relative_to(os.path.realpath(mine))

        # The path is a result's folder, or a file in one.
        try:
            owner = owner_of(path) or owner_of(path.parent)
        except UnreadableRecord as error:
            raise Refused(f"whose result {path} is cannot be read: {error}") from error
        # The record before the prefix: one that is open to all opens nobody's results to others.
        return owner == self.owner if owner else under(path, self.prefixes)

    def opened(self, url: str) -> bool:
        """Whether the operator opened the place of a store's URL."""
        return any(
            # With the slash, or s3://lake/a would open s3://lake/ab too.
            url.startswith(prefix.rstrip("/") + "/")
            for prefix in self.prefixes
            if local_path(prefix) is None
        )

    def shares_bucket(self, url: str) -> bool:
        """Whether a result of this tenant's may be at the URL. Records are looked for only where
        Flyte has results written: another host, which a caller chose, gets no request."""
        return store_url(self.output_prefix) is not None and bucket_of(url) == bucket_of(
            self.output_prefix
        )
