"""The agent keeps the service's promises, on two real servers that share a data directory."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

from tests.duckdb.driving import FOREVER, kill_jobs

from flyteagents import Idempotency, Key, Phase, StructuredDataset
from flyteagents.testing import FakePropeller, FlyteTask, RealServer, task_template
from flyteagents.testing.contract import AgentContract, VendorControl
from flyteagents_duckdb_job.directory import DataDirectory


class DataDirectoryControl(VendorControl):
    """The vendor is a directory; nothing of it can be made to fail over HTTP."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def started(self, key: Key) -> int:
        return int(DataDirectory(self.root).job(key.hex).description() is not None)

    def live(self, key: Key) -> int:
        job = DataDirectory(self.root).job(key.hex)
        return int(job.description() is not None and job.ended() is None)


class TestDuckDB(AgentContract):
    task_type = "duckdb_query"
    idempotency: ClassVar[Idempotency] = "vendor"
    plugins: ClassVar[Sequence[str]] = ("duckdb",)
    outputs: ClassVar[Mapping[str, object]] = {"n": 7}

    @asynccontextmanager
    async def vendor(self) -> AsyncIterator[VendorControl]:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            root = Path(folder) / "data"
            yield DataDirectoryControl(root)
            kill_jobs(root)

    def environment(self, vendor: VendorControl) -> Mapping[str, str]:
        assert isinstance(vendor, DataDirectoryControl)
        return {
            "FLYTEAGENTS_DUCKDB_DATA_DIR": str(vendor.root),
            "FLYTEAGENTS_DUCKDB_MAX_JOBS": "4",
            "FLYTEAGENTS_DUCKDB_MAX_MEMORY": "200MB",
        }

    def task(self, sql: str) -> FlyteTask:
        # The Flyte 2 executor takes a task without `custom` for broken.
        return task_template(self.task_type, sql=sql, outputs={"n": int}, custom={"threads": 1})

    def succeeds(self) -> FlyteTask:
        return self.task("SELECT 7 + 0 * sum(hash(i) % 2)::BIGINT AS n FROM range(3000000) t(i)")

    def fails(self) -> FlyteTask:
        return self.task("SELECT n FROM nowhere")

    def runs_long(self) -> FlyteTask:
        return self.task(FOREVER)


async def test_a_server_killed_in_the_middle_costs_a_task_nothing(tmp_path: Path) -> None:
    env = {"FLYTEAGENTS_DUCKDB_DATA_DIR": str(tmp_path / "data")}
    task = task_template(
        "duckdb_query",
        sql="SELECT max(hash(i)) % $m AS n, 'x' AS s FROM range(80000000) t(i)",
        inputs={"m": 1},
        outputs={"results": StructuredDataset},
    )
    async with (
        RealServer(["duckdb"], env) as server,
        FakePropeller(
            server.endpoint, base=str(tmp_path / "flyte"), wait_for_ready=True, scale=0.002
        ) as propeller,
    ):
        running = asyncio.create_task(propeller.run(task))
        jobs = tmp_path / "data" / "jobs"
        for _ in range(3000):
            if list(jobs.glob("*/started")):
                break
            await asyncio.sleep(0.02)
        server.kill()
        await asyncio.to_thread(server.restart)
        outcome = await running
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert len(list(jobs.iterdir())) == 1
