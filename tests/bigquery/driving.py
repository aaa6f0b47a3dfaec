"""The agent without a server around it, with what its tests say again and again."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any, cast

from flyteagents import Phase, Status, Task
from flyteagents.testing import AgentEnvironment, Declared, FlyteTask
from flyteagents_bigquery import BigQueryAgent
from flyteagents_bigquery.config import BigQueryConfig
from flyteagents_bigquery.job import BigQueryJob
from flyteagents_bigquery.settings import BigQuerySettings

TASK_TYPE = "bigquery_query_job_task"
CUSTOM: Mapping[str, object] = {"ProjectID": "p", "Location": "EU", "Domain": "d"}
JOB_ID = "flyte-" + "0" * 40


class Driver:
    """One agent with its connections. `job` of its methods may come from anywhere."""

    def __init__(self, url: str, **settings: Any) -> None:
        made = BigQuerySettings(**{"url": url, "anonymous": True, **settings})
        self.env = AgentEnvironment(BigQueryAgent, settings=made)
        self.agent = cast("BigQueryAgent", self.env.agent)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Driver]:
        async with self.env:
            yield self

    def task(
        self,
        statement: str = "SELECT 1",
        custom: Mapping[str, object] = CUSTOM,
        inputs: Mapping[str, object] | None = None,
        interface: Mapping[str, Declared] | None = None,
        outputs: Mapping[str, Declared] | None = None,
        *,
        execution: str = "run",
        number: int = 0,
        timeout: timedelta | float = 0.0,
    ) -> Task[BigQueryConfig]:
        """A task as it comes out of the protobuf messages that Flyte sends."""
        return self.env.task(
            custom=custom,
            sql=statement,
            inputs=inputs or {},
            interface=interface or {},
            outputs=outputs or {},
            timeout=timeout,
            execution=execution,
            attempt=number,
        )

    def read(
        self, made: FlyteTask, *, execution: str = "run", number: int = 0
    ) -> Task[BigQueryConfig]:
        return self.env.read(made, execution=execution, attempt=number)

    async def create(self, task: Task[BigQueryConfig], **options: Any) -> BigQueryJob:
        return await self.env.create(task, **options)

    async def get(self, job: BigQueryJob, **options: Any) -> Status:
        return await self.env.get(job, **options)

    async def cancel(self, job: BigQueryJob, **options: Any) -> None:
        await self.env.cancel(job, **options)

    async def run(self, task: Task[BigQueryConfig]) -> Status:
        """A job that ends at once, from its begin to its end."""
        job = await self.create(task)
        status = await self.get(job)
        assert status.phase is None or status.phase.terminal or status.phase is Phase.RUNNING
        return status
