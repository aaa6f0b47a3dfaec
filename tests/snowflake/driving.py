"""The agent as the kernel drives it, without a server around it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

from tests.snowflake.logins import private_key

from flyteagents import Status, Task, Type
from flyteagents._kernel import tasks
from flyteagents._kernel.call import KernelCall
from flyteagents._kernel.keys import key_of
from flyteagents._kernel.offered import models_of, offer
from flyteagents._kernel.plugins import Plugin
from flyteagents._kernel.requests import Connection
from flyteagents._kernel.served import ServedAgent
from flyteagents._kernel.settings import KernelSettings
from flyteagents._task import Identity
from flyteagents._vendor.budget import Budget
from flyteagents._wire import messages
from flyteagents.testing import Attempt, FlyteTask, task_template
from flyteagents.testing.tasks import Declared, create_message
from flyteagents_snowflake import SnowflakeAgent
from flyteagents_snowflake.config import SnowflakeConfig
from flyteagents_snowflake.job import SnowflakeJob
from flyteagents_snowflake.settings import SnowflakeSettings

TASK_TYPE = "snowflake"
CONFIG: Mapping[str, str] = {
    "account": "acct",
    "user": "me",
    "database": "db",
    "schema": "public",
    "warehouse": "wh",
}
QUERY_ID = "01b2c3d4-0000-1111-2222-333344445555"
SENT = Connection({"snowflake_private_key": private_key()}, {})


class Driver:
    """One agent with its connections. `job` of its methods may come from anywhere."""

    def __init__(self, url: str | None, **settings: Any) -> None:
        made = SnowflakeSettings(**{"url": url, **settings})
        offered = offer(SnowflakeAgent, models_of(SnowflakeAgent), made)
        plugin = Plugin(
            "snowflake", "flyteagents-snowflake", "0", "flyteagents_snowflake", [offered]
        )
        self.served = ServedAgent(plugin, offered, KernelSettings())
        self.settings = made
        self.agent: SnowflakeAgent = self.served.agent

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
        inputs: Mapping[str, object] | None = None,
        *,
        config: Mapping[str, str] | None = CONFIG,
        custom: Mapping[str, object] | None = None,
        interface: Mapping[str, Declared] | None = None,
        outputs: Mapping[str, Declared] | None = None,
        execution: str = "run",
        number: int = 0,
        timeout: timedelta | float = 0.0,
        runtime: str = "1.16.0",
    ) -> Task[SnowflakeConfig]:
        """A task as it comes out of the protobuf messages that Flyte sends."""
        made = task_template(
            TASK_TYPE,
            config=None if custom is not None else config,
            custom=custom,
            sql=statement,
            inputs=inputs,
            interface=interface,
            outputs=outputs,
            timeout=timeout,
        )
        made.template.metadata.runtime.version = runtime
        return self.read(made, execution=execution, number=number)

    def read(
        self, made: FlyteTask, *, execution: str = "run", number: int = 0
    ) -> Task[SnowflakeConfig]:
        attempt = Attempt(made, execution=execution, number=number)
        raw = create_message(attempt).SerializeToString()
        request = messages.create_request(raw, 1)
        return tasks.build_task(self.served, request, key_of("", TASK_TYPE, request.output_prefix))

    def call(
        self,
        operation: str,
        of: object,
        *,
        declared: Mapping[str, Type] | None = None,
        connection: Connection = SENT,
        project: str = "tests",
        domain: str = "development",
        seconds: float = 5.0,
        **options: Any,
    ) -> KernelCall:
        repeat: Any = "unsent" if self.settings.find_by_tag else "any"
        retries = operation not in ("get", "cancel")
        budget = Budget(time.monotonic() + seconds, repeat, retries=retries)
        call = KernelCall(
            self.served,
            operation,
            Identity(project=project, domain=domain),
            budget,
            of,
            declared=declared or {},
            connection=connection,
        )
        return dataclasses.replace(call, **options)

    async def create(self, task: Task[SnowflakeConfig], **options: Any) -> SnowflakeJob:
        return await self.agent.create(task, self.call("create", task, **options))

    async def find(self, task: Task[SnowflakeConfig], **options: Any) -> SnowflakeJob | None:
        return await self.agent.find(task, self.call("find", task, **options))

    async def get(self, job: SnowflakeJob, **options: Any) -> Status:
        return await self.agent.get(job, self.call("get", job, **options))

    async def cancel(self, job: SnowflakeJob, **options: Any) -> None:
        await self.agent.cancel(job, self.call("cancel", job, **options))

    async def ended(self, job: SnowflakeJob, seconds: float = 10.0, **options: Any) -> Status:
        """How it ends."""
        end = time.monotonic() + seconds
        while True:
            status = await self.get(job, **options)
            if status.phase is not None and status.phase.terminal:
                return status
            assert time.monotonic() < end, status
            await asyncio.sleep(0.02)

    async def run(self, task: Task[SnowflakeConfig]) -> Status:
        """A job from its begin to its end."""
        return await self.ended(await self.create(task), declared=task.declared)
