"""A made-up Databricks workspace, and the agent that talks to it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
from tests.databricks.driving import Driver
from tests.databricks.fake_databricks import FakeDatabricks

_THEIRS = ("DATABRICKS_", "FLYTE_DATABRICKS_", "FLYTEAGENTS_", "_FSEC_", "KUBERNETES_")


@pytest.fixture(autouse=True)
def _no_settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the settings of who runs the tests."""
    if request.node.get_closest_marker("live"):
        return
    for name in list(os.environ):
        if name == "FLYTEAGENTS_TEST_SPARK":  # which Spark the tests themselves use
            continue
        if name.startswith(_THEIRS) or name == "AWS_WEB_IDENTITY_TOKEN_FILE":
            monkeypatch.delenv(name)


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
