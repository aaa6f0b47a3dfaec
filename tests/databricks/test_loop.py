"""Many polls of a slow workspace leave the event loop free for everybody else."""

from __future__ import annotations

import pytest
from tests.databricks.driving import EXISTING, Driver
from tests.vendors.polls import apart, assert_that_polls_leave_the_loop_free


async def test_five_hundred_polls_do_not_hold_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTEAGENTS_SECRET_FLYTE_DATABRICKS_ACCESS_TOKEN", "dapi-of-the-service")
    async with (
        apart("tests.databricks.fake_databricks") as (url, _),
        Driver(url).opened() as driver,
    ):
        job = await driver.create(driver.task(EXISTING, notebookPath="/forever"))
        await assert_that_polls_leave_the_loop_free(lambda: driver.get(job, seconds=30.0))
