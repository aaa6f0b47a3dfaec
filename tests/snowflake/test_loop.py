"""Many polls of a slow Snowflake leave the event loop free for everybody else, and log in once."""

from __future__ import annotations

import json

from tests.snowflake.driving import Driver
from tests.snowflake.fake_snowflake import ACCOUNT, USER, FakeSnowflake
from tests.snowflake.logins import Logins
from tests.vendors.polls import apart, assert_that_polls_leave_the_loop_free

from flyteagents._kernel.requests import Connection


async def test_five_hundred_polls_do_not_hold_the_loop() -> None:
    async with (
        apart("tests.snowflake.fake_snowflake") as (url, printed),
        Driver(url, account=ACCOUNT, user=USER).opened() as driver,
    ):
        key = json.loads(printed)["FLYTEAGENTS_SECRET_SNOWFLAKE_PRIVATE_KEY"]
        sent = Connection({"snowflake_private_key": key}, {})
        job = await driver.create(driver.task("SELECT 'forever'", config={}), connection=sent)
        await assert_that_polls_leave_the_loop_free(
            lambda: driver.get(job, seconds=30.0, connection=sent)
        )


async def test_a_poll_is_one_request_with_the_token_that_there_is(
    snowflake: FakeSnowflake,
) -> None:
    logins = snowflake.logins = Logins({"ACCT.ME": [0]})
    async with Driver(snowflake.url).opened() as driver:
        job = await driver.create(driver.task("SELECT SYSTEM$WAIT(5)"))
        for _ in range(20):
            await driver.get(job)
    assert len(snowflake.requests) == 21
    assert snowflake.connections == 1
    assert len(logins.seen) == 21
    tokens = {one.headers["authorization"] for one in snowflake.requests}
    assert len(tokens) == 1
