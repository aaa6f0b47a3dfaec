"""The agent as the kernel drives it, without a server around it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

from flyteagents import Phase, Status, Task, Type
from flyteagents._kernel import tasks
from flyteagents._kernel.call import KernelCall
from flyteagents._kernel.keys import key_of
from flyteagents._kernel.plugins import Models, Plugin
from flyteagents._kernel.requests import NO_CONNECTION, Connection
from flyteagents._kernel.served import ServedAgent
from flyteagents._kernel.settings import KernelSettings
from flyteagents._task import Identity
from flyteagents._vendor.budget import Budget
from flyteagents._wire import messages
from flyteagents.testing import Attempt, Declared, FlyteTask, task_template
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
        models = Models(BigQuerySettings, BigQueryConfig, BigQueryJob)
        plugin = Plugin(
            "bigquery",
            "flyteagents-bigquery",
            "0",
            "flyteagents_bigquery",
            [BigQueryAgent],
            {TASK_TYPE: models},
            {BigQuerySettings: made},
        )
        self.served = ServedAgent(plugin, BigQueryAgent, KernelSettings())
        self.agent: BigQueryAgent = self.served.agent

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Driver]:
        await self.served.open()
        try:
            yield self
        finally:
            await self.served.close()

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
        made = task_template(
            TASK_TYPE,
            custom=custom,
            sql=statement,
            inputs=inputs,
            interface=interface,
            outputs=outputs,
            timeout=timeout,
        )
        return self.read(made, execution=execution, number=number)

    def read(
        self, made: FlyteTask, *, execution: str = "run", number: int = 0
    ) -> Task[BigQueryConfig]:
        attempt = Attempt(made, execution=execution, number=number)
        raw = attempt.create_request().SerializeToString()
        request = messages.create_request(raw, 1)
        return tasks.build_task(self.served, request, key_of("", TASK_TYPE, request.output_prefix))

    def call(
        self,
        operation: str,
        of: object,
        *,
        declared: Mapping[str, Type] | None = None,
        connection: Connection = NO_CONNECTION,
        project: str = "tests",
        domain: str = "development",
        seconds: float = 5.0,
    ) -> KernelCall:
        budget = Budget(time.monotonic() + seconds, retries=operation not in ("get", "cancel"))
        identity = Identity(project=project, domain=domain)
        return KernelCall(
            self.served,
            operation,
            identity,
            budget,
            of,
            declared=declared or {},
            connection=connection,
        )

    async def create(self, task: Task[BigQueryConfig], **options: Any) -> BigQueryJob:
        return await self.agent.create(task, self.call("create", task, **options))

    async def get(self, job: BigQueryJob, **options: Any) -> Status:
        return await self.agent.get(job, self.call("get", job, **options))

    async def cancel(self, job: BigQueryJob, **options: Any) -> None:
        await self.agent.cancel(job, self.call("cancel", job, **options))

    async def run(self, task: Task[BigQueryConfig]) -> Status:
        """A job that ends at once, from its begin to its end."""
        job = await self.create(task)
        status = await self.get(job, declared=task.declared)
        assert status.phase is None or status.phase.terminal or status.phase is Phase.RUNNING
        return status
