"""The agent as the kernel drives it, without a server around it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

from flyteagents import Call, Status, Task
from flyteagents.testing import AgentEnvironment, Attempt, Declared, FlyteTask, task_template
from flyteagents_databricks import DatabricksAgent
from flyteagents_databricks.config import DatabricksConfig
from flyteagents_databricks.job import DatabricksJob
from flyteagents_databricks.settings import DatabricksSettings

TASK_TYPE = "databricks"
HOST = "my-workspace.cloud.databricks.com"
TOKEN = "dapi0123456789abcdef0123456789abcdef"
FLYTEKIT: Mapping[str, str | None] = {
    "databricks_instance": HOST,
    "run_id": "77",
    "auth_token": TOKEN,
    "auth_type": "pat",
    "client_id": None,
    "oauth_secret_name": "databricks-oauth",
    "oidc_token_file": None,
    "oidc_service_account": None,
    "oidc_audience": None,
    "namespace": "tests-development",
}
"""What flytekit's connector writes of a run."""
ARGS = ("pyflyte-execute", "--inputs", "s3://flyte/in.pb", "--output-prefix", "{{.outputPrefix}}")
NEW = {"new_cluster": {"spark_version": "16.4.x-scala2.12", "num_workers": 2}}
EXISTING = {"existing_cluster_id": "0923-164208-meows279"}
SERVERLESS = {"environment_key": "default"}


def environment(url: str) -> Mapping[str, str]:
    """Variables of a server for the workspace at `url`."""
    return {
        "FLYTEAGENTS_DATABRICKS_URL": url,
        "FLYTEAGENTS_SECRET_FLYTE_DATABRICKS_ACCESS_TOKEN": TOKEN,
    }


def custom(conf: Mapping[str, object] = EXISTING, **more: object) -> dict[str, object]:
    """A task's `custom`, as the SDKs write it."""
    return {"databricksConf": dict(conf), "databricksInstance": HOST, **more}


def flyte_task(
    conf: Mapping[str, object] = EXISTING,
    *,
    task_type: str = TASK_TYPE,
    inputs: Mapping[str, object] | None = None,
    outputs: Mapping[str, Declared] | None = None,
    timeout: timedelta | float = 0.0,
    args: tuple[str, ...] = ARGS,
    env: Mapping[str, str] | None = None,
    **more: object,
) -> FlyteTask:
    """A task with a container, as the SDKs write it."""
    made = task_template(
        task_type,
        custom=custom(conf, **more),
        inputs=inputs,
        outputs=outputs,
        timeout=timeout,
        image="registry/image:1",
        args=args,
    )
    for name, value in (env or {}).items():
        made.template.container.env.add(key=name, value=value)
    return made


class Driver:
    """One agent with its connections. `job` of its methods may come from anywhere."""

    def __init__(self, url: str | None, allow: tuple[str, ...] = (), **settings: Any) -> None:
        made = DatabricksSettings(**{"url": url, **settings})
        self.env = AgentEnvironment(DatabricksAgent, settings=made, allow_hosts=allow)
        self.agent = cast("DatabricksAgent", self.env.agent)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Driver]:
        async with self.env:
            yield self

    def task(
        self,
        conf: Mapping[str, object] = EXISTING,
        *,
        execution: str = "run",
        number: int = 0,
        **options: Any,
    ) -> Task[DatabricksConfig]:
        """A task as it comes out of the protobuf messages that Flyte sends."""
        return self.read(flyte_task(conf, **options), execution=execution, number=number)

    def read(
        self, made: FlyteTask, *, execution: str = "run", number: int = 0
    ) -> Task[DatabricksConfig]:
        attempt = Attempt(made, execution=execution, number=number)
        task = replace(made, template=attempt.template)
        return self.env.read(task, execution=execution, attempt=number)

    def call(self, operation: str, of: object, *, prefix: str = "", **options: Any) -> Call:
        return self.env.call(operation, of, output_prefix=prefix, **options)

    async def create(self, task: Task[DatabricksConfig], **options: Any) -> DatabricksJob:
        return await self.agent.create(task, self.call("create", task, **options))

    async def get(self, job: DatabricksJob, **options: Any) -> Status:
        return await self.agent.get(job, self.call("get", job, **options))

    async def cancel(self, job: DatabricksJob, **options: Any) -> None:
        await self.agent.cancel(job, self.call("cancel", job, **options))
