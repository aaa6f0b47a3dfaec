"""Secrets by name, from the request, the environment, or files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from flyteagents._errors import InvalidTask, Unauthenticated
from flyteagents._telemetry.redact import remember

_SIZE_LIMIT = 1 << 20
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
        self._flytekit_dir = Path(
            read("FLYTE_SECRETS_DEFAULT_DIR", "").strip() or flytekit_directory
        )
        self._flytekit_file = read("FLYTE_SECRETS_FILE_PREFIX", "").strip()
        self._files: dict[Path, tuple[tuple[int, int, int], str]] = {}

    def find(self, name: str, connection: Mapping[str, str]) -> str | None:
        """The secret, None where there is none. Raises InvalidTask for what cannot be a name."""
        found = self._look(name, connection)
        if found:
            remember(found)  # a vendor may put it into an error
        return found

    def _look(self, name: str, connection: Mapping[str, str]) -> str | None:
        if not _NAME.fullmatch(name):
            raise InvalidTask(f"{name[:60]!r} is not the name of a secret")
        folded = {key.lower(): value for key, value in connection.items()}
        if sent := connection.get(name) or folded.get(name.lower()):
            return sent
        ours, flytekits = self._variables(name)
        *files, flytekits_file = self._paths(name)
        return (
            os.environ.get(ours)
            or next((found for path in files if (found := self._read(path))), None)
            or os.environ.get(flytekits, "").strip()
            or (self._read(flytekits_file) or "").strip()
            or None
        )

    def require(self, name: str, connection: Mapping[str, str]) -> str:
        """The secret. Raises Unauthenticated, with the places where it could be."""
        found = self.find(name, connection)
        if found is None:
            places = [*self._variables(name), *map(str, dict.fromkeys(self._paths(name)))]
            raise Unauthenticated(f"there is no secret {name!r}; put it into {' or '.join(places)}")
        return found

    def _variables(self, name: str) -> tuple[str, str]:
        upper = name.upper()
        return f"FLYTEAGENTS_SECRET_{re.sub(r'[^A-Z0-9]', '_', upper)}", self._flytekit_env + upper

    def _paths(self, name: str) -> Iterator[Path]:
        if self._directory is not None:
            for spelling in dict.fromkeys((name, name.lower(), name.upper())):
                yield self._directory / spelling
        yield self._flytekit_dir / f"{self._flytekit_file}{name.lower()}"

    def _read(self, path: Path) -> str | None:
        """The file's text. Kubernetes swaps mounted files, so it is read again on any change."""
        try:
            stat = path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            known = self._files.get(path)
            if known is None or known[0] != stamp:
                with path.open("rb") as file:
                    content = file.read(_SIZE_LIMIT + 1)
                if len(content) > _SIZE_LIMIT:
                    raise Unauthenticated(f"{path} is over 1 MiB; that is no secret")
                text = content.decode("utf-8", "replace").rstrip("\r\n")
                known = self._files[path] = (stamp, text)
        except OSError:
            self._files.pop(path, None)
            return None
        return known[1]
