"""Secrets by name, from the request, the environment, or files."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flyteagents._errors import InvalidTask, Unauthenticated
from flyteagents._redact import excerpt, remember

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
        self._places = functools.lru_cache(maxsize=1000)(self._look)

    def find(self, name: str, connection: Mapping[str, str]) -> str | None:
        """The secret, None where there is none. Raises InvalidTask for what cannot be a name."""
        places = self._places(name)
        if sent := self.sent(name, connection):
            return sent
        for place in places:
            if found := place.read():
                remember(found)  # a vendor may put it into an error
                return found
        return None

    def sent(self, name: str, connection: Mapping[str, str]) -> str | None:
        """The secret of a request's connection, None where that has none."""
        if not connection:
            return None
        spellings = {key.lower(): value for key, value in connection.items()}
        found = connection.get(name) or spellings.get(name.lower())
        if found:
            remember(found)
        return found or None

    def require(self, name: str, connection: Mapping[str, str]) -> str:
        """The secret. Raises Unauthenticated, with the places where it could be."""
        found = self.find(name, connection)
        if found is None:
            places = dict.fromkeys(place.name for place in self._places(name))
            raise Unauthenticated(
                f"there is no secret {name!r}, or it is empty; put it into {' or '.join(places)}"
            )
        return found

    def _look(self, name: str) -> tuple[_Place, ...]:
        """Where a secret could be. Asked for in every request, so it is found out once a name."""
        if not _NAME.fullmatch(name):
            raise InvalidTask(f"{excerpt(name, 60)!r} is not the name of a secret")
        ours = f"FLYTEAGENTS_SECRET_{re.sub(r'[^A-Z0-9]', '_', name.upper())}"
        places = [_Place(ours, variable=True)]
        if self._directory is not None:
            spellings = dict.fromkeys((name, name.lower(), name.upper()))
            places += [_Place(str(self._directory / spelling)) for spelling in spellings]
        # flytekit strips blanks too (flytekit/core/context_manager.py).
        places.append(_Place(self._flytekit_env + name.upper(), variable=True, stripped=True))
        file = Path(self._flytekit_dir, self._flytekit_file + name.lower())
        places.append(_Place(str(file), stripped=True))
        return tuple(places)


@dataclass(frozen=True)
class _Place:
    """Where a secret could be: the name of a variable, or the path of a file."""

    name: str
    variable: bool = False
    stripped: bool = False

    def read(self) -> str:
        """What is there; nothing where that is not."""
        found = os.environ.get(self.name, "") if self.variable else _file(self.name)
        return found.strip() if self.stripped else found


def _file(path: str) -> str:
    try:
        stat = os.stat(path)  # noqa: PTH116 # a Path costs more than the look
        if stat.st_size > _SIZE_LIMIT:
            raise Unauthenticated(f"{path} is over 1 MiB; that is no secret")
        return _text(path, (stat.st_mtime_ns, stat.st_size, stat.st_ino))
    except OSError:
        return ""


@functools.lru_cache(maxsize=100)
def _text(path: str, stamp: tuple[int, int, int]) -> str:
    """Kubernetes swaps mounted files, so one is read again when its stamp is another."""
    return Path(path).read_bytes().decode("utf-8", "replace").rstrip("\r\n")
