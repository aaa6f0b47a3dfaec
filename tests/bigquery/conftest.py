"""A fake BigQuery, and the agent that talks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.bigquery.driving import Driver
from tests.bigquery.fake_bigquery import FakeBigQuery
from tests.bigquery.google_tokens import GoogleTokens
from tests.sdk.fixtures import sdk as sdk
from tests.sdk.fixtures import tasks as tasks
from tests.vendors.repeats import asked_once as asked_once
from tests.vendors.settings import forget_settings

_THEIRS = ("BIGQUERY_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS")


@pytest.fixture(autouse=True)
def _no_settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_settings(request, monkeypatch, *_THEIRS)


@pytest.fixture
async def bigquery() -> AsyncIterator[FakeBigQuery]:
    async with FakeBigQuery() as vendor:
        yield vendor


@pytest.fixture
async def driver(bigquery: FakeBigQuery) -> AsyncIterator[Driver]:
    async with Driver(bigquery.url).opened() as driver:
        yield driver


@pytest.fixture
async def google() -> AsyncIterator[GoogleTokens]:
    async with GoogleTokens() as tokens:
        yield tokens
