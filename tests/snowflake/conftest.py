"""A Snowflake to test against."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.sdk.fixtures import sdk as sdk
from tests.sdk.fixtures import tasks as tasks
from tests.snowflake.driving import Driver
from tests.snowflake.fake_snowflake import FakeSnowflake
from tests.snowflake.logins import Logins
from tests.snowflake.statements import FOREVER
from tests.vendors.repeats import asked_once as asked_once
from tests.vendors.settings import forget_settings


@pytest.fixture(autouse=True)
def _no_settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_settings(request, monkeypatch, "SNOWFLAKE_")


@pytest.fixture
async def snowflake() -> AsyncIterator[FakeSnowflake]:
    async with FakeSnowflake() as vendor:
        yield vendor


@pytest.fixture
async def driver(snowflake: FakeSnowflake) -> AsyncIterator[Driver]:
    """Drives the agent alone; the statement "forever" runs on."""
    snowflake.will("forever", FOREVER)
    async with Driver(snowflake.url).opened() as driver:
        yield driver


@pytest.fixture
def logins(snowflake: FakeSnowflake) -> Logins:
    made = Logins(
        {"ACCT.ME": [0], "ORG-MY_ACCT.ME": [0]},
        {"app": "word-of-the-client"},
        {"refresh-me"},
        {"the-pat"},
    )
    snowflake.logins = made
    return made
