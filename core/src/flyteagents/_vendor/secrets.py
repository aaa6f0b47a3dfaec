"""Secrets by name, from the request, the environment, or files."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from flyteagents._errors import InvalidTask, Unauthenticated
from flyteagents._redact import remember

_SIZE_LIMIT = 1 << 20
# It becomes a file's path: no slash, and no dot at its start.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")


class Secrets:
    """Looks in this order: the Flyte 2 connection, `FLYTEAGENTS_SECRET_<NAME>`, `directory`, and
    then where flytekit looks: `_FSEC_<NAME>` and `/etc/secrets/<name>`."""

    def __init__(
        self, directory: Path | None, flytekit_directory: Path = Path("/etc/secrets")
    ) -> None:
        self._directory = directory
        # flytekit's own variables for the same, honoured so that its deployments go on working
        # (flytekit/configuration/__init__.py, SecretsConfig).
        read = os.environ.get
        self._flytekit_env = read("FLYTE_SECRETS_ENV_PREFIX", "_FSEC_").strip()
        self._flytekit_dir = read("FLYTE_SECRETS_DEFAULT_DIR", "").strip() or flytekit_directory
        self._flytekit_file = read("FLYTE_SECRETS_FILE_PREFIX", "").strip()

    def find(self, name: str, connection: Mapping[str, str]) -> str | None:
        """The secret, None where there is none. Raises InvalidTask for what cannot be a name."""
        if not _NAME.fullmatch(name):
            raise InvalidTask(f"{name[:60]!r} is not the name of a secret")
        found = next(filter(None, self._look(name, connection)), None)
        if found:
            remember(found)  # a vendor may put it into an error
        return found

    def sent(self, name: str, connection: Mapping[str, str]) -> str | None:
        """The secret of a request's connection, None where that has none."""
        found = next(filter(None, self._connections(name, connection)), None)
        if found:
            remember(found)
        return found

    def require(self, name: str, connection: Mapping[str, str]) -> str:
        """The secret. Raises Unauthenticated, with the places where it could be."""
        found = self.find(name, connection)
        if found is None:
            places = dict.fromkeys(map(str, (*self._ours(name), *self._flytekits(name))))
            raise Unauthenticated(f"there is no secret {name!r}; put it into {' or '.join(places)}")
        return found

    def _look(self, name: str, connection: Mapping[str, str]) -> Iterator[str]:
        yield from self._connections(name, connection)
        yield from map(_read, self._ours(name))
        # flytekit strips blanks too (flytekit/core/context_manager.py).
        yield from (_read(place).strip() for place in self._flytekits(name))

    def _connections(self, name: str, connection: Mapping[str, str]) -> Iterator[str]:
        yield connection.get(name, "")
        yield {key.lower(): value for key, value in connection.items()}.get(name.lower(), "")

    def _ours(self, name: str) -> Iterator[str | Path]:
        yield f"FLYTEAGENTS_SECRET_{re.sub(r'[^A-Z0-9]', '_', name.upper())}"
        if self._directory is not None:
            for spelling in (name, name.lower(), name.upper()):
                yield self._directory / spelling

    def _flytekits(self, name: str) -> Iterator[str | Path]:
        yield self._flytekit_env + name.upper()
        yield Path(self._flytekit_dir, self._flytekit_file + name.lower())


def _read(place: str | Path) -> str:
    """What is in a variable or a file, nothing where that is not."""
    if isinstance(place, str):
        return os.environ.get(place, "")
    try:
        stat = place.stat()
        if stat.st_size > _SIZE_LIMIT:
            raise Unauthenticated(f"{place} is over 1 MiB; that is no secret")
        return _text(place, (stat.st_mtime_ns, stat.st_size, stat.st_ino))
    except OSError:
        return ""


@functools.lru_cache(maxsize=100)
def _text(path: Path, stamp: tuple[int, int, int]) -> str:
    """Kubernetes swaps mounted files, so one is read again when its stamp is another."""
    return path.read_bytes().decode("utf-8", "replace").rstrip("\r\n")
