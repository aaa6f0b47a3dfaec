"""A server's agent on a data directory of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.duckdb.driving import Driver, kill_jobs


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory; whatever still runs in it at the end is killed."""
    directory = tmp_path / "data"
    yield directory
    kill_jobs(directory)


@pytest_asyncio.fixture
async def driver(data_dir: Path) -> AsyncIterator[Driver]:
    async with Driver(data_dir) as opened:
        yield opened
