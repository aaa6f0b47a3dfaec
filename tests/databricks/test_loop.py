"""Many polls of a slow workspace leave the event loop free for everybody else."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.databricks.driving import EXISTING, Driver

from flyteagents import Phase
from flyteagents.testing import free_port

POLLS = 500
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def apart() -> AsyncIterator[str]:
    """A made-up workspace in a process of its own, so that its work is not measured."""
    port = free_port()
    command = ["-m", "tests.databricks.fake_databricks", "--port", str(port), "--delay", "0.2"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def test_five_hundred_polls_do_not_hold_the_loop(
    apart: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYTEAGENTS_SECRET_FLYTE_DATABRICKS_ACCESS_TOKEN", "dapi-of-the-service")
    lags: list[float] = []

    async def tick() -> None:
        # The loop's own work between two ticks: what else the machine does is not ours.
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.005)
            lags.append(time.thread_time() - began)

    async with Driver(apart).opened() as driver:
        job = await driver.create(driver.task(EXISTING, notebookPath="/forever"))
        ticking = asyncio.create_task(tick())
        polls = []
        for _ in range(POLLS):  # as they come from callers, not all in one tick
            polls.append(asyncio.create_task(driver.get(job, seconds=30.0)))
            await asyncio.sleep(0.002)
        found = await asyncio.gather(*polls)
        ticking.cancel()
    assert {status.phase for status in found} == {Phase.RUNNING}
    assert len(lags) > 100
    assert sorted(lags)[int(len(lags) * 0.95)] < 0.05
