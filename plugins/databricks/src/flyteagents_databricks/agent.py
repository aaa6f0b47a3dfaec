"""The agent: what is asked of Databricks in each call.

https://docs.databricks.com/api/workspace/jobs
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

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
    Unavailable,
    VendorError,
)
from flyteagents.kit.pages import page
from flyteagents_databricks import reasons
from flyteagents_databricks.config import DatabricksConfig
from flyteagents_databricks.credentials import Asked, Credentials, Login, asked_of
from flyteagents_databricks.delivery import Delivery
from flyteagents_databricks.failures import Failure, failure_of, outputs_of
from flyteagents_databricks.job import DatabricksJob
from flyteagents_databricks.kubernetes import Namespaces
from flyteagents_databricks.left import error_left, tells_failures
from flyteagents_databricks.logs import log_lines
from flyteagents_databricks.outputs import notebook_outputs
from flyteagents_databricks.places import KNOWN, instance_host
from flyteagents_databricks.request import Entrypoint, needs_entrypoint, submit_body
from flyteagents_databricks.run import PythonFile, Run, RunOutput, RunTask, Submitted
from flyteagents_databricks.settings import DatabricksSettings
from flyteagents_databricks.states import Reading, failed, read_state
from flyteagents_databricks.statistics import moment, run_info, run_statistics

PAGES = 100
"""Pages of a run's tasks that are followed."""
UNNAMED = "1"
"""The number of a run that Databricks has not given one yet."""


class DatabricksAgent(Agent[DatabricksSettings, DatabricksConfig, DatabricksJob]):
    """Runs a task as a one-time run of the Jobs API, whose idempotency token is the task's key."""

    task_type = "databricks"
    name = "Databricks Connector"
    idempotency = "vendor"
    hosts = KNOWN

    @classmethod
    def serves(cls, settings: DatabricksSettings) -> Sequence[str]:
        return (cls.task_type, "spark") if settings.serve_spark else (cls.task_type,)

    async def open(self) -> None:
        self._credentials = Credentials(self.settings, Namespaces())
        self._delivery = Delivery(self.settings)
        self._versions: dict[str, str] = {}

    async def close(self) -> None:
        self._delivery.close()
        self._credentials.close()

    async def endpoint(self, of: Any, call: Call) -> Endpoint:
        url = self._url(of)
        if isinstance(of, DatabricksJob) and of.auth_token is not None:
            return Endpoint(url, bearer=of.auth_token.get_secret_value())
        login = await self._login(of, call)
        return Endpoint(url, bearer=await self._credentials.token(login, call))

    def explain(self, reply: Reply) -> AgentError | None:
        return reasons.explain(reply)

    def fingerprint(self, task: Task[DatabricksConfig]) -> Mapping[str, object]:
        image = task.container.image if task.container else ""
        return {"inputs": task.inputs, "config": task.config.work(), "image": image}

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
        try:
            reply = await self._jobs(job, call, "POST", "runs/submit", json=body)
        except JobNotFound as error:  # a cluster, a policy or a notebook that the task names
            raise InvalidTask(error.message, code=error.code) from None
        try:
            made = Submitted.model_validate(reply.json())
        except ValidationError:
            raise Unavailable("Databricks' reply to the submit names no run") from None
        job = job.model_copy(update={"run_id": str(made.run_id)})
        return await self._with_page(job, task, call)

    async def adopts(self, task: Task[DatabricksConfig], job: DatabricksJob, call: Call) -> bool:
        """Whether an earlier attempt's run can be taken over: its outputs lie under that
        attempt's prefix, and this attempt must give them out from there."""
        if task.config.notebook_path or not task.declared:
            return True
        try:
            await call.read_error()
        except AgentError:
            return False
        return True

    async def get(self, job: DatabricksJob, call: Call) -> Status:
        run = await self._run(job, call)
        if not run.does(call.fingerprint):
            # Not raised: the kernel would stop the run, and it is somebody else's.
            return Status(Phase.FAILED, _other_work(job))
        reading = read_state(run)
        status = Status(
            reading.phase,
            reading.message or None,
            code=reading.code,
            info=run_info(run),
            cancelling=reading.cancelling,
        )
        if reading.phase is None or not reading.phase.terminal:
            return replace(status, started=moment(run.start_time))
        run = await self._all_pages(job, run, call)
        status = replace(
            status,
            statistics=run_statistics(run),
            started=moment(run.start_time),
            ended=moment(run.end_time),
        )
        if reading.phase is Phase.SUCCEEDED:
            return await self._succeeded(job, run, status, call)
        if reading.phase is Phase.ABORTED:
            return status
        return await self._failed(job, run, reading, status, call)

    async def cancel(self, job: DatabricksJob, call: Call) -> None:
        try:
            await self._jobs(job, call, "POST", "runs/cancel", json={"run_id": job.number})
        except InvalidTask as error:
            if error.code != "INVALID_STATE":  # it has ended
                raise

    async def logs(self, job: DatabricksJob, call: Call, token: str, lines: int) -> LogPage:
        run = await self._all_pages(job, await self._run(job, call), call)
        path = self._path(job, "runs/get-output")
        outputs = await outputs_of(run.tasks, call, path)
        return page(log_lines(run, outputs), token, lines)

    async def check(self, call: Call) -> str:
        if self.settings.url is None and self.settings.instance is None:
            return (
                "settings are valid; no workspace is named (FLYTEAGENTS_DATABRICKS_INSTANCE), so "
                "credentials were not tried"
            )
        login = await self._login(None, call)
        reply = await call.http.get("/api/2.0/preview/scim/v2/Me")
        who = str(reply.json().get("userName") or "somebody")
        return f"{login.url} accepts {login.shown}: it is {who}"

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
                auth_type=config.auth_type,
                client_id=config.client_id,
                namespace=namespace or None,
                token_secret=config.token_secret,
                oauth_secret_name=config.oauth_secret,
                oidc_audience=config.oidc_audience,
            )
        except ValidationError as error:
            fields = {str(problem["loc"][0]) for problem in error.errors(include_input=False)}
            raise InvalidTask(
                f"these of the task's are no names: {', '.join(sorted(fields))}"
            ) from None

    async def _entrypoint(
        self, task: Task[DatabricksConfig], job: DatabricksJob, call: Call
    ) -> Entrypoint | None:
        """Our entrypoint, in the workspace. Raises before anything is started where a file of the
        task's own could fail and look like a success."""
        if needs_entrypoint(task):
            login = await self._login(job, call)
            return await self._delivery.entrypoint(login.identity, call)
        return None

    async def _with_page(
        self, job: DatabricksJob, task: Task[DatabricksConfig], call: Call
    ) -> DatabricksJob:
        """The run with its page, whose address only Databricks knows. One look, if there is time:
        the run is there, whatever comes of it."""
        try:
            run = await self._run(job, call)
        except AgentError:
            return job
        if not run.does(task.fingerprint):
            raise JobConflict(_other_work(job))
        try:
            paged = DatabricksJob(**job.model_dump() | {"page": run.run_page_url})
        except ValidationError:
            return job
        return paged

    async def _succeeded(self, job: DatabricksJob, run: Run, status: Status, call: Call) -> Status:
        """A run that Databricks calls a success: what its code left says whether it is one."""
        if any(task.notebook_task is not None for task in run.tasks):
            return await self._exited(job, run, status, call)
        try:
            failure = await error_left(call)
        except AgentError as error:
            if tells_failures(run.tasks, self.settings.entrypoint_path):
                return await self._with_outputs(status, call)
            if isinstance(error, VendorError):
                raise
            return replace(
                status,
                phase=Phase.FAILED,
                message="the run ended well at Databricks, and whether the task's code failed "
                f"stands in {call.output_prefix}/error.pb, which cannot be read: {error.message}",
            )
        if failure is not None:
            return self._told(status, failure)
        return await self._with_outputs(status, call)

    async def _with_outputs(self, status: Status, call: Call) -> Status:
        """The outputs that the code has written, where Flyte will not look for them."""
        if not call.adopted or not call.declared:
            return status
        outputs = await call.read_outputs()
        if outputs is None:
            text = f"the run that was taken over has left no outputs under {call.output_prefix}"
            return replace(status, phase=Phase.RETRYABLE_FAILED, message=text)
        return replace(status, outputs=outputs)

    async def _exited(self, job: DatabricksJob, run: Run, status: Status, call: Call) -> Status:
        if not call.declared:
            return replace(status, outputs={})
        path, task = self._path(job, "runs/get-output"), run.tasks[0]
        output = await call.http.get(path, into=RunOutput, params={"run_id": task.run_id})
        try:
            return replace(status, outputs=notebook_outputs(output.notebook_output, call.declared))
        except InvalidTask as error:
            return replace(status, phase=Phase.FAILED, message=error.message)

    async def _failed(
        self, job: DatabricksJob, run: Run, reading: Reading, status: Status, call: Call
    ) -> Status:
        """The user's own message, from where there is one."""
        try:
            failure = await error_left(call)
        except AgentError:
            failure = None  # it says more, and Databricks says enough
        if failure is None:
            tasks = [task for task in run.tasks if failed(task)]
            outputs = await outputs_of(tasks, call, self._path(job, "runs/get-output"))
            failure = await failure_of(tasks, outputs)
        elif not reading.code_failed and reading.phase is Phase.RETRYABLE_FAILED:
            failure = replace(failure, recoverable=True)  # the cluster was lost as well
        if not reading.code_failed and failure.recoverable is None:
            message = failure.message or reading.message
            return replace(status, message=_about(message, job))
        return self._told(status, failure)

    def _told(self, status: Status, failure: Failure) -> Status:
        """A failure of the task's code, which may say itself whether to try again."""
        again = failure.recoverable
        if again is None:
            again = self.settings.retry_failed_code
        return replace(
            status,
            phase=Phase.RETRYABLE_FAILED if again else Phase.FAILED,
            message=failure.message or status.message,
            # What the code said of itself is no error of Databricks'.
            code=status.code if failure.recoverable is None else None,
        )

    async def _run(self, job: DatabricksJob, call: Call, token: str | None = None) -> Run:
        params = {"run_id": job.number, "page_token": token}
        reply = await self._jobs(job, call, "GET", "runs/get", params=params)
        try:
            return Run.model_validate(reply.json())
        except ValidationError:
            raise Unavailable("Databricks' reply is not a run") from None

    async def _all_pages(self, job: DatabricksJob, run: Run, call: Call) -> Run:
        """The run with all of its tasks: they come a hundred a page, in no order."""
        tasks: list[RunTask] = list(run.tasks)
        token = run.next_page_token
        for _ in range(PAGES):
            if not token:
                break
            more = await self._run(job, call, token)
            tasks += more.tasks
            token = more.next_page_token
        if not tasks:  # a run in the shape of 2.0, which is its own task; nobody knows its file
            same = {"run_id": run.run_id, "state": run.state, "status": run.status}
            tasks = [RunTask(**same, spark_python_task=PythonFile())]
        return run.model_copy(update={"tasks": tasks})

    async def _jobs(
        self, job: DatabricksJob, call: Call, method: str, path: str, **sent: Any
    ) -> Reply:
        """A request to the Jobs API: 2.2, or 2.1 where a workspace has only that."""
        url = self._url(job)
        if self._versions.get(url) is None:
            reply = await call.http.request(method, self._path(job, path), accept=(404,), **sent)
            if reply.status != 404:
                self._versions[url] = "2.2"
                return reply
            if reasons.words(reply)[0] != reasons.NO_SUCH_API:
                raise reasons.explain(reply) or JobNotFound("Databricks answered 404")
            self._versions[url] = "2.1"
        return await call.http.request(method, self._path(job, path), **sent)

    def _path(self, job: DatabricksJob, path: str) -> str:
        return f"/api/{self._versions.get(self._url(job), '2.2')}/jobs/{path}"


def _other_work(job: DatabricksJob) -> str:
    return f"Databricks has the run {job} for this attempt, and it does other work than the task"


def _about(message: str, job: DatabricksJob) -> str:
    return f"{message or 'the run failed'} | run={job}"
