"""What the check of credentials says."""

from __future__ import annotations

import os

import pytest
from tests.snowflake.driving import Driver
from tests.snowflake.fake_snowflake import BASE, FakeSnowflake
from tests.snowflake.logins import Logins, private_key

from flyteagents import AgentError, Unauthenticated
from flyteagents._kernel.requests import NO_CONNECTION
from flyteagents.testing import Response

NAME = "FLYTEAGENTS_SECRET_SNOWFLAKE_PRIVATE_KEY"


async def test_the_check_says_who_one_is(
    snowflake: FakeSnowflake, logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, private_key())
    async with Driver(snowflake.url, account="acct", user="me").opened() as driver:
        told = await driver.agent.check(driver.call("check", None, connection=NO_CONNECTION))
        assert "accepts the secret snowflake_private_key; the user is ME" in told
        snowflake.script("POST", BASE, Response(403, {"message": "IP not allowed"}))
        with pytest.raises(AgentError, match="IP not allowed"):
            await driver.agent.check(driver.call("check", None, connection=NO_CONNECTION))
    async with Driver(snowflake.url).opened() as driver:
        told = await driver.agent.check(driver.call("check", None, connection=NO_CONNECTION))
        assert "FLYTEAGENTS_SNOWFLAKE_ACCOUNT" in told
    assert NAME in os.environ


async def test_the_check_makes_a_token_of_each_tenants_secret(
    snowflake: FakeSnowflake, logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, private_key())
    monkeypatch.setenv("FLYTEAGENTS_SECRET_SALES", private_key(1))
    tenants = {"sales/*": "sales", "shop/*": "sales", "*/production": "robot"}
    settings = {"account": "acct", "user": "me", "credentials": tenants}
    async with Driver(snowflake.url, **settings).opened() as driver:
        with pytest.raises(Unauthenticated, match=r"^\*/production: there is no secret 'robot'"):
            await driver.agent.check(driver.call("check", None, connection=NO_CONNECTION))
        monkeypatch.setenv("FLYTEAGENTS_SECRET_ROBOT", "a-programmatic-token")
        told = await driver.agent.check(driver.call("check", None, connection=NO_CONNECTION))
    assert told.endswith(
        "sales/*, shop/*: there is a token for the secret sales; "
        "*/production: there is a token for the secret robot"
    )


async def test_the_check_tries_tenants_secrets_also_where_there_is_no_account_of_the_services(
    snowflake: FakeSnowflake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYTEAGENTS_SECRET_SALES", "{}")
    async with Driver(snowflake.url, credentials={"sales/*": "sales"}).opened() as driver:
        with pytest.raises(Unauthenticated, match="no JSON object with client_id"):
            await driver.agent.check(driver.call("check", None, connection=NO_CONNECTION))
        # Its token comes from the endpoint of an account that only a task names.
        client = '{"client_id": "app", "client_secret": "word-of-app"}'
        monkeypatch.setenv("FLYTEAGENTS_SECRET_SALES", client)
        told = await driver.agent.check(driver.call("check", None, connection=NO_CONNECTION))
    assert told.endswith("FLYTEAGENTS_SNOWFLAKE_USER; sales/*: the secret sales is there")
