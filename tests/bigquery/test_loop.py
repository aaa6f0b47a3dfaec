"""Many polls of a slow BigQuery leave the event loop free for everybody else."""

from __future__ import annotations

from tests.bigquery.driving import Driver
from tests.vendors.polls import apart, assert_that_polls_leave_the_loop_free


async def test_five_hundred_polls_do_not_hold_the_loop() -> None:
    async with apart("tests.bigquery.fake_bigquery") as (url, _), Driver(url).opened() as driver:
        job = await driver.create(driver.task("SELECT 'forever'"))
        await assert_that_polls_leave_the_loop_free(lambda: driver.get(job, seconds=30.0))
