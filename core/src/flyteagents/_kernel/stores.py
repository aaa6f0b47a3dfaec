"""Small files that a job wrote below its output prefix: on this machine, or where fsspec reaches.

It blocks, so it runs in threads. The prefix came over the wire: only the two names that
Flyte's own code writes are ever read, and no more of a file than Flyte would read of it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from os.path import normpath
from pathlib import Path
from types import MethodType
from typing import Any
from urllib.parse import unquote, urlsplit

from flyteagents._errors import (
    Forbidden,
    InvalidTask,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from flyteagents._kernel.store_errors import PACKAGES, meaning

ERROR, OUTPUTS = "error.pb", "outputs.pb"
SIZE_LIMIT = 10 << 20
"""Bytes. Flyte reads at most 2 MB of such a file by default, and 10 as its charts set it
(flytestdlib/storage/config.go:36, charts/flyte-core/values.yaml:845)."""
PLACES, THREADS = 32, 4
"""Places that have threads of their own, the others share some; and how many each has."""
KNOWN = (*PACKAGES, "memory")
"""Schemes that are given to fsspec, the last one for tests. It knows others, which lead from a
caller's prefix to any host (`http://`, `sftp://`), and with `::` from one file system to the next,
this machine's too."""
MOUNTS = Path("/proc/self/mounts")
_OCTAL = re.compile(r"\\([0-7]{3})")
"""How a space, a tab, a line's end or a backslash stands there (man 5 fstab)."""


class Stores:
    """Threads for one agent's reads, apart for each place. Python cannot end a thread: a store that
    hangs keeps its own, and must not keep those that other tenants' stores are read with."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._threads: dict[str, ThreadPoolExecutor] = {}

    def threads(self, prefix: str) -> ThreadPoolExecutor:
        """Those for what lies below `prefix`."""
        place = _place_of(prefix)[:255]  # kept for ever, and the prefix came over the wire
        if place not in self._threads and len(self._threads) >= PLACES:
            place = ""
        made = self._threads.get(place)
        if made is None:
            made = ThreadPoolExecutor(THREADS, f"flyteagents-stores-{self._name}")
            self._threads[place] = made
        return made

    def close(self) -> None:
        """End those that nothing holds."""
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)


def _place_of(prefix: str) -> str:
    """What hangs as one: a bucket, or a mount."""
    path = _path_of(prefix)
    if path is None:
        parts = urlsplit(prefix)
        return f"{parts.scheme}://{parts.netloc}"
    path, mounts = Path(normpath(path)), _mounts()
    mount = next((str(place) for place in (path, *path.parents) if str(place) in mounts), "/")
    # Below the root, a link may lead to another mount, and where there is no table all may be one.
    # To look at the path itself would hang with it.
    return mount if mount != "/" else str(Path(*path.parts[:3]))


def _mounts() -> Collection[str]:
    """The mount points of this machine, as Linux tells them; macOS has no such table."""
    try:
        lines = MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ()
    return {_OCTAL.sub(lambda match: chr(int(match[1], 8)), line.split(" ")[1]) for line in lines}


def _path_of(prefix: str) -> Path | None:
    """Where a prefix is on this machine; None for one that is elsewhere."""
    parts = urlsplit(prefix)
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path) if parts.scheme else prefix)


def read_file(prefix: str, name: str) -> bytes | None:
    """The file `name` below `prefix`, None where there is none. Raises Unsupported,
    Unauthenticated, Forbidden, Unavailable, and InvalidTask for a file over the limit."""
    if not prefix:
        raise Unsupported(f"{name} cannot be looked for: this call knows no output prefix")
    path = _path_of(prefix)
    if path is not None:
        return _local(path / name)
    scheme, url = urlsplit(prefix).scheme, f"{prefix.rstrip('/')}/{name}"
    if scheme not in KNOWN or "::" in prefix:
        raise Unsupported(
            f"{url} cannot be read here: it is at none of the stores that Flyte writes to "
            f"({', '.join(PACKAGES)}) and no path"
        )
    return _remote(scheme, url)


def _local(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return _within_limit(file.read(SIZE_LIMIT + 1), path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise Forbidden(f"{path} cannot be read: {error.strerror}") from None
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from None


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path there. Raises Unsupported where its package is
    missing, with what to install, and whatever that package raises."""
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(url)
    # fsspec raises ValueError for a scheme it does not know, ImportError for a missing package.
    except (ImportError, ValueError):
        scheme = urlsplit(url).scheme
        package = PACKAGES.get(scheme, f"and the fsspec package for {scheme}://")
        raise Unsupported(f"pip install 'flyteagents[stores]' {package}") from None
    return system, path


def _remote(scheme: str, url: str) -> bytes | None:
    try:
        system, path = file_system(url)
    except Unsupported as missing:
        raise Unsupported(f"{url} cannot be read here: {missing}") from None
    except Exception as error:  # noqa: BLE001 # the store's package, as it reads its variables
        raise meaning(error, scheme, url) from None
    # gcsfs repeats for half a minute what fails, refused credentials too, and has no switch for it
    # (gcsfs/core.py, _request). Whoever asks here asks again.
    once = getattr(getattr(type(system), "_request", None), "__wrapped__", None)
    if once is not None:
        system._request = MethodType(once, system)  # noqa: SLF001 # of this object alone
    try:
        system.invalidate_cache()  # it may have been asked before the job wrote the file
        raw: Any = system.cat_file(path, start=0, end=SIZE_LIMIT + 1)
    except FileNotFoundError:
        return None
    except Exception as error:  # noqa: BLE001 # each store has its own
        told = meaning(error, scheme, url)
        if isinstance(told, Unauthenticated):
            # fsspec keeps it, and with it the credentials that it began with.
            system.clear_instance_cache()
        raise told from None
    return _within_limit(bytes(raw), url)


def _within_limit(raw: bytes, where: object) -> bytes:
    if len(raw) > SIZE_LIMIT:
        raise InvalidTask(f"{where} has more than {SIZE_LIMIT >> 20} MiB, and Flyte reads less")
    return raw
