"""The agent: what is asked of Databricks in each call.

https://docs.databricks.com/api/workspace/jobs
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import ValidationError

from flyteagents import (
    Agent,
    AgentError,
    Call,
    Endpoint,
    InvalidTask,
    JobConflict,
    JobNotFound,
    Link,
    LogPage,
    Phase,
    Reply,
    Status,
    Task,
)
from flyteagents.kit.answers import moment
from flyteagents.kit.credentials import check_all
from flyteagents.kit.pages import page
from flyteagents_databricks import known_keys, reasons
from flyteagents_databricks.config import DatabricksConfig
from flyteagents_databricks.credentials import Asked, Credentials, Login, asked_of, is_for
from flyteagents_databricks.delivery import Delivery
from flyteagents_databricks.ends import Ended
from flyteagents_databricks.idle_keys import idle_keys
from flyteagents_databricks.job import AS_WRITTEN, DatabricksJob
from flyteagents_databricks.kubernetes import Namespaces
from flyteagents_databricks.left import will_be_known
from flyteagents_databricks.logs import log_lines, most_telling
from flyteagents_databricks.places import KNOWN, instance_host
from flyteagents_databricks.request import Entrypoint, code_of, needs_entrypoint, submit_body
from flyteagents_databricks.run import Run
from flyteagents_databricks.runs import Runs, Versions
from flyteagents_databricks.settings import DatabricksSettings
from flyteagents_databricks.states import read_state
from flyteagents_databricks.statistics import run_info, run_statistics

UNNAMED = "1"
"""The number of a run that Databricks has not given one yet."""


class DatabricksAgent(Agent[DatabricksSettings, DatabricksConfig, DatabricksJob]):
    """Runs a task as a one-time run of the Jobs API, whose idempotency token is the task's key."""

    task_type = "databricks"
    name = "Databricks Connector"
    idempotency = "vendor"
    hosts = KNOWN
    later_info: ClassVar = {"state": "UNKNOWN"}

    @classmethod
    def serves(cls, settings: DatabricksSettings) -> Sequence[str]:
        return (cls.task_type, "spark") if settings.serve_spark else (cls.task_type,)

    async def open(self) -> None:
        self._credentials = Credentials(self.settings, Namespaces())
        self._delivery = Delivery(self.settings)
        self._versions = Versions()

    async def close(self) -> None:
        self._delivery.close()
        self._credentials.close()

    async def endpoint(self, of: Any, call: Call) -> Endpoint:
        url = self._url(of)
        if isinstance(of, DatabricksJob) and of.auth_token is not None and not call.fresh:
            # That run belongs to this token's principal; the service's own may not see or stop it.
            # It ends or is revoked, and then there is none but the service's own.
            token = of.auth_token.get_secret_value()
            return Endpoint(url, token, shown="the token that flytekit's connector kept")
        login = await self._login(of, call)
        return Endpoint(url, await self._credentials.token(login, call), shown=login.shown)

    def explain(self, reply: Reply) -> AgentError | None:
        return reasons.explain(reply)

    def warnings(self, task: Task[DatabricksConfig]) -> Sequence[str]:
        return [*known_keys.warnings(task), *idle_keys(task, self.settings)]

    def fingerprint(self, task: Task[DatabricksConfig]) -> Mapping[str, object]:
        # The task's code may be in its image, so that another image may be other work.
        image = task.container.image if task.container else ""
        return {
            "inputs": task.inputs,
            "config": task.config.work(),
            "image": image,
            "code": code_of(task),
        }

    def links(self, job: DatabricksJob) -> Sequence[Link]:
        host = f"https://{job.databricks_instance}"
        links = [Link("Databricks Console", job.page or f"{host}/jobs/runs/{job.run_id}")]
        if job.cluster is not None:
            cluster = f"{host}/#setting/clusters/{job.cluster}"
            links.append(Link("Spark UI", f"{cluster}/sparkUi"))
            links.append(Link("Driver Logs", f"{cluster}/driverLogs"))
        return links

    async def create(self, task: Task[DatabricksConfig], call: Call) -> DatabricksJob:
        job = self._unnamed(task)
        entrypoint = await self._entrypoint(task, job, call)
        body = submit_body(task, self.settings, entrypoint)
        await will_be_known(body["tasks"], call, self.settings.entrypoint_path)
        try:
            number = await self._runs(job, call).submit(body)
        except JobNotFound as error:  # a cluster, a policy or a notebook that the task names
            raise InvalidTask(error.message, code=error.code) from None
        job = job.model_copy(update={"run_id": str(number)})
        return await self._with_page(job, task, call)

    async def adopts(self, task: Task[DatabricksConfig], job: DatabricksJob, call: Call) -> bool:
        """Whether an earlier attempt's run can be taken over: its outputs lie under that
        attempt's prefix, and this attempt must give them out from there."""
        # What a notebook gives is kept by Databricks, and not under the prefix.
        if task.config.notebook_path or not task.declared:
            return True
        try:
            # Whether the store can be read at all; what is in it counts when the run has ended.
            await call.read_error()
        except AgentError:
            return False
        return True

    async def get(self, job: DatabricksJob, call: Call) -> Status:
        runs = self._runs(job, call)
        reply = await runs.reply()
        if (same := call.unchanged(reply)) is not None:
            return same
        run = reply.into(Run)
        if not run.does(call.fingerprint):
            # Not raised: the kernel would stop the run, and it is somebody else's.
            return Status(Phase.FAILED, _other_work(job))
        reading = read_state(run)
        if reading.timed_out and job.limited:
            # It stands for the task's timeout, after which Flyte may try again.
            reading = replace(reading, phase=Phase.RETRYABLE_FAILED)
        status = Status(
            reading.phase,
            reading.message or None,
            code=reading.code,
            info=run_info(run),
            started=moment(run.start_time),
            cancelling=reading.cancelling,
        )
        # All pages of tasks only for an end, so that a poll stays one request.
        if reading.phase is None or not reading.phase.terminal:
            return status
        run = await runs.with_all_tasks(run)
        numbers, ended = run_statistics(run), moment(run.end_time)
        status = replace(status, statistics=numbers, ended=ended)
        ended_run = Ended(
            job=job,
            run=run,
            reading=reading,
            status=status,
            runs=runs,
            call=call,
            settings=self.settings,
        )
        return await ended_run.told()

    async def cancel(self, job: DatabricksJob, call: Call) -> None:
        await self._runs(job, call).cancel()

    async def logs(self, job: DatabricksJob, call: Call, token: str, lines: int) -> LogPage:
        runs = self._runs(job, call)
        run = await runs.with_all_tasks(await runs.get())
        tasks = most_telling(run.tasks)
        return page(log_lines(run, tasks, await runs.outputs(tasks)), token, lines)

    async def check(self, call: Call) -> str:
        return await check_all(
            own=lambda: self._check_own(call),
            tenants=self.settings.credentials,
            tenant=lambda named: self._check_tenant(named, call),
        )

    async def _check_own(self, call: Call) -> str:
        if self.settings.url is None and self.settings.instance is None:
            return (
                "settings are valid; no workspace is named (FLYTEAGENTS_DATABRICKS_INSTANCE), so "
                "credentials were not tried"
            )
        return await self._check_login(await self._login(None, call), call)

    async def _check_tenant(self, named: str, call: Call) -> str:
        """In the service's own workspace, where that is one that the credentials are for."""
        own = self.settings.url or self.settings.instance
        login = await self._credentials.named(own or "", named, call)
        if own is None or not is_for(own, named):
            return f"{login.shown} can be read"
        return await self._check_login(login, call)

    async def _check_login(self, login: Login, call: Call) -> str:
        token = await self._credentials.token(login, call)
        endpoint = Endpoint(login.url, bearer=token)
        reply = await call.http.get("/api/2.0/preview/scim/v2/Me", endpoint=endpoint)
        who = str(reply.json().get("userName") or "somebody")
        return f"{login.url} accepts {login.shown}: it is {who}"

    def _runs(self, job: DatabricksJob, call: Call) -> Runs:
        return Runs(self._versions, self._url(job), call, job.number)

    def _url(self, of: Any) -> str:
        """The address of the workspace that a task or a job is in."""
        if self.settings.url is not None:
            return self.settings.url
        return f"https://{self._host(of)}"

    def _host(self, of: Any) -> str:
        if isinstance(of, DatabricksJob):
            return of.databricks_instance
        named = of.config.instance if isinstance(of, Task) else None
        return instance_host(named, self.settings.instance or self.settings.url)

    async def _login(self, of: Any, call: Call) -> Login:
        if isinstance(of, Task):
            of = self._unnamed(of)
        url = self._url(of)
        return await self._credentials.login(asked_of(url, of) if of else Asked(url), call)

    def _unnamed(self, task: Task[DatabricksConfig]) -> DatabricksJob:
        """All of a run but its number. Made before the submit: after it nothing may fail."""
        config, settings = task.config, self.settings
        conf = config.conf or {}
        namespace = task.identity.namespace if settings.namespace_secrets else ""
        try:
            return DatabricksJob(
                databricks_instance=self._host(task),
                run_id=UNNAMED,
                cluster=conf.get("existing_cluster_id"),
                limited=(task.timeout is not None and not conf.get("timeout_seconds")) or None,
                auth_type=config.auth_type,
                client_id=config.client_id,
                namespace=namespace or None,
                token_secret=config.token_secret,
                oauth_secret_name=config.oauth_secret,
                oidc_audience=config.oidc_audience,
            )
        except ValidationError as error:
            fields = {str(problem["loc"][0]) for problem in error.errors(include_input=False)}
            names = ", ".join(sorted(AS_WRITTEN.get(field, field) for field in fields))
            raise InvalidTask(f"no name is what the task has as its {names}") from None

    async def _entrypoint(
        self, task: Task[DatabricksConfig], job: DatabricksJob, call: Call
    ) -> Entrypoint | None:
        """Our entrypoint, in the workspace; None for a task that has a file of its own."""
        if needs_entrypoint(task):
            login = await self._login(job, call)
            retried = task.identity.attempt > 0
            return await self._delivery.entrypoint(login.identity, call, retried=retried)
        return None

    async def _with_page(
        self, job: DatabricksJob, task: Task[DatabricksConfig], call: Call
    ) -> DatabricksJob:
        """The run with its page, whose address only Databricks knows. One look, if there is time:
        the run is there, whatever comes of it."""
        try:
            run = await self._runs(job, call).get()
        except AgentError:
            return job
        if not run.does(task.fingerprint):
            # To a known token Databricks answers with its run, whatever else the body says.
            raise JobConflict(_other_work(job))
        try:
            paged = DatabricksJob(**job.model_dump() | {"page": run.run_page_url})
        except ValidationError:
            return job
        return paged


def _other_work(job: DatabricksJob) -> str:
    return f"Databricks has the run {job} for this attempt, and it does other work than the task"
