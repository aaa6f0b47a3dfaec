"""Settings of the tests of credentials."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.bigquery.driving import Driver
from tests.bigquery.fake_bigquery import FakeBigQuery


@contextlib.asynccontextmanager
async def opened(bigquery: FakeBigQuery, **settings: Any) -> AsyncIterator[Driver]:
    """The agent, with credentials that come from this machine."""
    made = {
        "url": bigquery.url,
        "anonymous": False,
        "key_hosts": ("127.0.0.1", "*.googleapis.com"),
        **settings,
    }
    async with Driver(**made).opened() as driver:
        yield driver


def default(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    """Make `text` the application default credentials."""
    path = folder / "default.json"
    path.write_text(text)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))


def bearers(bigquery: FakeBigQuery) -> list[str]:
    return [one.headers["authorization"].removeprefix("Bearer ") for one in bigquery.requests]
