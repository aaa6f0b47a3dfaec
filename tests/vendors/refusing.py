"""A store that refuses: fsspec's own in memory, as one where the identity may not read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class NoCredentialsError(Exception):
    """As botocore's, where there are none to send."""


@contextmanager
def refusing_reads(error: Exception | None = None) -> Iterator[None]:
    """`memory://` raises what s3fs makes of a 403, or `error`."""
    memory = pytest.importorskip("fsspec.implementations.memory")

    def refused(*_: object, **__: object) -> bytes:
        raise error or PermissionError("Access Denied")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory.MemoryFileSystem, "cat_file", refused)
        yield
