"""The agent: what is asked of BigQuery in each call.

https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Mapping, Sequence

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
)
from flyteagents_bigquery import credentials, reasons
from flyteagents_bigquery.config import BigQueryConfig
from flyteagents_bigquery.credentials import Source
from flyteagents_bigquery.job import BigQueryJob
from flyteagents_bigquery.logs import log_lines, log_page
from flyteagents_bigquery.outputs import child_jobs, job_outputs
from flyteagents_bigquery.request import insert_body, named_job
from flyteagents_bigquery.resource import POLLED, JobResource, number
from flyteagents_bigquery.settings import BigQuerySettings
from flyteagents_bigquery.states import read_state
from flyteagents_bigquery.statistics import job_info, job_statistics, moment
from flyteagents_bigquery.tokens import Tokens

SECRET = "google_application_credentials"  # noqa: S105 # a name, by which Flyte 2 sends a key
CONSOLE = "https://console.cloud.google.com/bigquery"


class BigQueryAgent(Agent[BigQuerySettings, BigQueryConfig, BigQueryJob]):
    """Runs a query as a BigQuery job whose id follows from the task's key."""

    task_type = "bigquery_query_job_task"
    name = "Bigquery Connector"
    idempotency = "vendor"
    hosts = ("*.googleapis.com",)

    async def open(self) -> None:
        settings = self.settings
        trust = credentials.Trust(settings.key_hosts, settings.federated_secrets)
        self._tokens = Tokens(
            functools.partial(credentials.obtain, scopes=settings.scopes, trust=trust)
        )

    async def close(self) -> None:
        self._tokens.close()

    async def endpoint(self, of: object, call: Call) -> Endpoint:
        url = f"{self.settings.url}/bigquery/v2"
        if self.settings.anonymous:
            return Endpoint(url)
        token = await self._tokens.token(await self._source(call), call)
        quota = self.settings.quota_project or token.quota_project
        headers = {"x-goog-user-project": quota} if quota else {}
        return Endpoint(url, bearer=token.value, headers=headers)

    def explain(self, reply: Reply) -> AgentError | None:
        return reasons.explain(reply)

    def handle(self, task: Task[BigQueryConfig]) -> BigQueryJob | None:
        job = named_job(task, self.settings)
        return job if job.location and not task.config.dry_run else None

    def fingerprint(self, task: Task[BigQueryConfig]) -> Mapping[str, object]:
        return {"statement": task.statement, "inputs": task.inputs, "config": task.config.work()}

    def links(self, job: BigQueryJob) -> Sequence[Link]:
        if job.dry_bytes is not None:
            return ()
        name = f"bq:{job.location or self.settings.location or 'US'}:{job.job_id}"
        return [
            Link("BigQuery Console", f"{CONSOLE}?project={job.project}&j={name}&page=queryresults")
        ]

    async def create(self, task: Task[BigQueryConfig], call: Call) -> BigQueryJob:
        job = named_job(task, self.settings)
        try:
            reply = await call.http.post(
                f"/projects/{job.project}/jobs", json=insert_body(task, job), accept=(409,)
            )
        except JobNotFound as error:  # the project, a dataset or a table that the query names
            raise InvalidTask(error.message, code=error.code) from None
        except InvalidTask as error:
            raise InvalidTask(error.message + _hint(task.statement), code=error.code) from None
        if reply.status == 409:
            return await self._existing(job, reply, call)
        made = _resource(reply)
        if task.config.dry_run:
            size = number(made.statistics.get("totalBytesProcessed")) or 0
            return job.model_copy(update={"dry_bytes": size})
        return job.model_copy(update={"location": made.job_reference.location or job.location})

    async def get(self, job: BigQueryJob, call: Call) -> Status:
        if job.dry_bytes is not None:
            return _dry(job, call)
        state = await self._job(job, call, POLLED)
        if state.described and not job.is_ours(state):
            # Not raised: the kernel would stop the job, and it is somebody else's.
            return Status(Phase.FAILED, _other_work(job))
        reading = read_state(state)
        message, code, phase = reading.message, reading.code, reading.phase
        outputs: Mapping[str, object] | None = None
        if phase is Phase.SUCCEEDED:
            try:
                outputs = await job_outputs(job, state, call)
            except InvalidTask as error:
                phase, message = Phase.FAILED, error.message
        return Status(
            phase,
            message or None,
            code=code,
            outputs=outputs,
            info=job_info(state),
            statistics=job_statistics(state),
            started=moment(state.statistics.get("startTime")),
            ended=moment(state.statistics.get("endTime")),
        )

    async def cancel(self, job: BigQueryJob, call: Call) -> None:
        """A script's job takes its children with it."""
        if job.dry_bytes is not None:
            return
        for location in self._places(job):
            try:
                params = {"location": location}
                await call.http.post(f"{job.path}/cancel", params=params)
            except JobNotFound:
                continue
            return
        raise JobNotFound(f"BigQuery has no job {job}")

    async def logs(self, job: BigQueryJob, call: Call, token: str, lines: int) -> LogPage:
        if job.dry_bytes is not None:
            return LogPage(())
        state = await self._job(job, call, None)
        children = await child_jobs(job, call) if state.children else ()
        return log_page(log_lines(state, children), token, lines)

    async def check(self, call: Call) -> str:
        await call.http.get("/projects", params={"maxResults": 1})
        if self.settings.anonymous:
            return f"{self.settings.url} answers; no credentials are sent"
        told = [f"BigQuery accepts {(await self._source(call)).shown}"]
        for named in dict.fromkeys(self.settings.credentials.values()):
            source = await self._named(named, call)
            await self._tokens.token(source, call)
            told.append(f"there is a token for {source.shown}")
        if self.settings.credentials and await call.find_secret(SECRET):
            told.append(f"the service has a secret {SECRET}, which goes before all of these")
        return "; ".join(told)

    async def _source(self, call: Call) -> Source:
        """The credentials of a call: the task's own, those that the settings give its project and
        domain, or Google's defaults."""
        key = await call.find_secret(SECRET)
        if key is not None:
            return Source(key=key, shown=f"the secret {SECRET}")
        who = f"{call.identity.project}/{call.identity.domain}"
        for pattern, named in self.settings.credentials.items():
            if fnmatch.fnmatchcase(who, pattern):
                return await self._named(named, call)
        return Source()

    async def _named(self, named: str, call: Call) -> Source:
        """What a setting names: a service account, or else a secret."""
        if "@" in named:
            return Source(impersonate=named, shown=f"the service account {named}")
        return Source(key=await call.secret(named), shown=f"the secret {named}")

    async def _existing(self, job: BigQueryJob, reply: Reply, call: Call) -> BigQueryJob:
        """The job that has our id already: our own, made by an earlier request for this key."""
        reason, message = reasons.words(reply)
        if reason not in ("duplicate", ""):
            raise Unavailable(message or "BigQuery answered 409", code=reasons.code_of(reason))
        # The project and the id are known, and what stands between them is the location.
        named = re.search(rf"\bJob {re.escape(job.project)}:([\w-]+)\.{job.job_id}\b", message)
        location = named[1] if named else job.location
        job = job.model_copy(update={"location": location})
        try:
            there = await self._job(job, call, "jobReference,configuration(labels)")
        except JobNotFound:
            if location is None:
                raise Unavailable(f"BigQuery has a job {job} and does not say where") from None
            return job  # a new job may take minutes to be seen; polls sort it out
        if not job.is_ours(there):
            raise JobConflict(_other_work(job))
        return job.model_copy(update={"location": there.job_reference.location or location})

    async def _job(self, job: BigQueryJob, call: Call, fields: str | None) -> JobResource:
        for location in self._places(job):
            params = {"location": location, "fields": fields}
            try:
                return await call.http.get(job.path, into=JobResource, params=params)
            except JobNotFound:
                continue
        raise JobNotFound(f"BigQuery has no job {job}")

    def _places(self, job: BigQueryJob) -> Sequence[str | None]:
        """Where the job may be. Other connectors did not always know; without a location
        BigQuery looks into its multi-regions only."""
        if job.location is not None or self.settings.location is None:
            return (job.location,)
        return (None, self.settings.location)


def _resource(reply: Reply) -> JobResource:
    try:
        return JobResource.model_validate(reply.json())
    except ValueError:
        raise Unavailable("BigQuery's reply to the insert is not a job") from None


def _other_work(job: BigQueryJob) -> str:
    return f"BigQuery has a job {job} already, and it does other work than this task"


def _dry(job: BigQueryJob, call: Call) -> Status:
    info: dict[str, int] = {"bytes_processed": job.dry_bytes or 0}
    if call.declared:
        text = "a dry run has no result, and the task declares an output"
        return Status(Phase.FAILED, text, info=info)
    return Status(Phase.SUCCEEDED, outputs={}, info=info, statistics=info)


def _hint(statement: str) -> str:
    if "{{" in statement:
        return " | inputs are query parameters: write @name instead of a template"
    if "--" in statement and "\n" not in statement.strip():
        # Both SDKs join the lines of a query.
        return " | the SDK made one line of the query, and -- comments out its rest; use /* */"
    return ""
