"""The agent without a server around it, with what its tests say again and again."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any, cast

from tests.snowflake.logins import private_key

from flyteagents import Status, Task
from flyteagents._kernel.call import KernelCall
from flyteagents._kernel.requests import Connection
from flyteagents._vendor.budget import Budget
from flyteagents.testing import AgentEnvironment, Declared, FlyteTask, task_template
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
        self.settings = SnowflakeSettings(**{"url": url, **settings})
        self.env = AgentEnvironment(SnowflakeAgent, settings=self.settings, seconds=30.0)
        self.agent = cast("SnowflakeAgent", self.env.agent)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Driver]:
        async with self.env:
            yield self

    def task(
        self,
        statement: str = "SELECT 1",
        inputs: Mapping[str, object] | None = None,
        *,
        config: Mapping[str, str] = CONFIG,
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
        return self.env.read(made, execution=execution, attempt=number)

    def call(
        self,
        operation: str,
        of: object,
        *,
        connection: Connection = SENT,
        **options: Any,
    ) -> KernelCall:
        call = self.env.call(operation, of, sent_secrets=connection.secrets, **options)
        assert isinstance(call, KernelCall)
        if self.settings.find_by_tag:
            # As the kernel does for an agent that looks jobs up.
            end = time.monotonic() + call.remaining
            call = dataclasses.replace(call, budget=Budget(end, "unsent"))
        return call

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
        return await self.env.until(job, within=seconds, **self._sent(options))

    async def run(self, task: Task[SnowflakeConfig]) -> Status:
        """A job from its begin to its end."""
        return await self.env.run(task, **self._sent({}))

    def _sent(self, options: dict[str, Any]) -> Any:
        connection: Connection = options.pop("connection", SENT)
        return {"sent_secrets": connection.secrets, **options}
