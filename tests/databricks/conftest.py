"""A made-up Databricks workspace, and the agent that talks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.databricks.driving import Driver
from tests.databricks.fake_databricks import FakeDatabricks
from tests.vendors.repeats import asked_once as asked_once
from tests.vendors.settings import forget_settings

_THEIRS = ("DATABRICKS_", "FLYTE_DATABRICKS_", "KUBERNETES_", "AWS_WEB_IDENTITY_TOKEN_FILE")


@pytest.fixture(autouse=True)
def _no_settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_settings(request, monkeypatch, *_THEIRS)


@pytest.fixture
async def databricks() -> AsyncIterator[FakeDatabricks]:
    async with FakeDatabricks() as vendor:
        yield vendor


@pytest.fixture
async def driver(
    databricks: FakeDatabricks, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Driver]:
    monkeypatch.setenv("FLYTEAGENTS_SECRET_FLYTE_DATABRICKS_ACCESS_TOKEN", "dapi-of-the-service")
    async with Driver(databricks.url).opened() as driver:
        yield driver
