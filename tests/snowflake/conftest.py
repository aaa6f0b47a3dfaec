"""A Snowflake to test against."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
from tests.sdk.fixtures import sdk as sdk
from tests.sdk.fixtures import tasks as tasks
from tests.snowflake.fake_snowflake import FakeSnowflake


@pytest.fixture(autouse=True)
def _no_settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the settings of who runs the tests."""
    if request.node.get_closest_marker("live"):
        return
    for name in list(os.environ):
        if name.startswith(("FLYTEAGENTS_", "_FSEC_", "SNOWFLAKE_")):
            monkeypatch.delenv(name)


@pytest.fixture
async def snowflake() -> AsyncIterator[FakeSnowflake]:
    async with FakeSnowflake() as vendor:
        yield vendor
