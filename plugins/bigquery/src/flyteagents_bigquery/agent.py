"""The agent: what is asked of BigQuery in each call.

https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import ClassVar, TypeVar

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
    Unauthenticated,
    Unavailable,
)
from flyteagents.kit.answers import no_page
from flyteagents.kit.credentials import check_all, for_tenant
from flyteagents.kit.pages import page
from flyteagents.kit.tokens import Tokens
from flyteagents_bigquery import known_keys, places, reasons
from flyteagents_bigquery.config import BigQueryConfig
from flyteagents_bigquery.credentials import GOOGLE_UNIVERSE, GoogleToken, Source, obtain
from flyteagents_bigquery.job import BigQueryJob
from flyteagents_bigquery.keys import Trust
from flyteagents_bigquery.labels import does_other_work
from flyteagents_bigquery.logs import log_lines
from flyteagents_bigquery.outputs import child_jobs, job_outputs
from flyteagents_bigquery.request import dry_run_body, hint, insert_body, named_job
from flyteagents_bigquery.resource import POLLED, JobResource, number
from flyteagents_bigquery.settings import GOOGLE, BigQuerySettings
from flyteagents_bigquery.states import read_state
from flyteagents_bigquery.statistics import job_info, job_statistics, moment

T = TypeVar("T")
Params = Mapping[str, str | None]
SECRET = "google_application_credentials"  # noqa: S105 # a name, by which Flyte 2 sends a key
CONSOLE = "https://console.cloud.google.com/bigquery"


class BigQueryAgent(Agent[BigQuerySettings, BigQueryConfig, BigQueryJob]):
    """Runs a query as a BigQuery job whose id follows from the task's key."""

    task_type = "bigquery_query_job_task"
    name = "Bigquery Connector"
    idempotency = "vendor"
    hosts = ("*.googleapis.com",)
    may_end_soon = True
    later_info: ClassVar = {"state": "UNKNOWN"}

    async def open(self) -> None:
        self._tokens: Tokens[Source, GoogleToken] = Tokens(self._obtain)

    async def close(self) -> None:
        self._tokens.close()

    async def endpoint(self, of: object, call: Call) -> Endpoint:
        url = f"{self.settings.url}/bigquery/v2"
        if self.settings.anonymous:
            return Endpoint(url)

        source = await self._source(call)
        token = await self._tokens.get(source, call)
        if token.universe != GOOGLE_UNIVERSE and self.settings.url == GOOGLE:
            # Its tokens open nothing at Google's own host, and are none of its business.
            raise Unauthenticated(
                f"{source.shown} is of the universe {token.universe}, whose BigQuery is elsewhere: "
                f"set FLYTEAGENTS_BIGQUERY_URL, to https://bigquery.{token.universe} for example"
            )
        quota = self.settings.quota_project or token.quota_project
        headers = {"x-goog-user-project": quota} if quota else {}
        return Endpoint(url, token.value, headers, shown=token.account or source.shown)

    def explain(self, reply: Reply) -> AgentError | None:
        return reasons.explain(reply)

    def handle(self, task: Task[BigQueryConfig]) -> BigQueryJob | None:
        job = named_job(task, self.settings)
        # A handle may be all that polls have, and BigQuery looks for a job of no location in its
        # multi-regions only. A dry run leaves no job that a poll could find.
        return job if job.location and not task.config.dry_run else None

    def warnings(self, task: Task[BigQueryConfig]) -> Sequence[str]:
        return known_keys.warnings(task)

    def fingerprint(self, task: Task[BigQueryConfig]) -> Mapping[str, object]:
        return {"statement": task.statement, "inputs": task.inputs, "config": task.config.work()}

    def links(self, job: BigQueryJob) -> Sequence[Link]:
        if job.dry_bytes is not None:
            return ()
        name = f"bq:{places.to_show(job, self.settings)}:{job.job_id}"
        url = f"{CONSOLE}?project={job.project}&j={name}&page=queryresults"
        return [Link("BigQuery Console", url)]

    async def create(self, task: Task[BigQueryConfig], call: Call) -> BigQueryJob:
        job = named_job(task, self.settings)
        try:
            reply = await call.http.post(
                f"/projects/{job.project}/jobs", json=insert_body(task, job), accept=(409,)
            )
        # From a create, JobNotFound is told as a bug of the agent's; here the task is wrong.
        except JobNotFound as error:  # the project, a dataset or a table that the query names
            raise InvalidTask(error.message, code=error.code) from None
        except InvalidTask as error:
            raise InvalidTask(error.message + hint(task.statement), code=error.code) from None
        # An id that is taken is mostly our own job, of an insert whose reply was lost.
        if reply.status == 409:
            return await self._existing(job, reply, call)
        made = _resource(reply)
        if task.config.dry_run:
            size = number(made.statistics.get("totalBytesProcessed")) or 0
            return job.model_copy(update={"dry_bytes": size})
        # BigQuery's answer says where the job is, not the config, which may name no place.
        return places.told(job, made)

    async def find(self, task: Task[BigQueryConfig], call: Call) -> BigQueryJob | None:
        """The job of an insert that was never answered, to be stopped. It may not be there yet,
        so it is named all the same; where BigQuery picks its place, a dry run tells which one."""
        job = named_job(task, self.settings)
        if task.config.dry_run:
            return None
        if job.location is None:
            path = f"/projects/{job.project}/jobs"
            body = dry_run_body(task, job)
            job = places.told(job, await call.http.post(path, into=JobResource, json=body))
        with contextlib.suppress(JobNotFound):
            there = await self._job(job, call, "jobReference,configuration(labels)")
            return None if _is_anothers(there, call) else job
        return job

    async def get(self, job: BigQueryJob, call: Call) -> Status:
        if job.dry_bytes is not None:
            return _dry(job, call)
        reply = await self._reply(job, call, POLLED)
        if (same := call.unchanged(reply)) is not None:
            return same
        state = reply.into(JobResource)
        if _is_anothers(state, call):
            # A job may be named before BigQuery was seen to have it, so each poll looks. Not
            # raised: the kernel would stop the job, and it is somebody else's.
            return Status(Phase.FAILED, _other_work(job))
        reading = read_state(state)
        message, code, phase = reading.message, reading.code, reading.phase
        if code == "accessDenied":
            message += await self._asked_as(call)
        outputs: Mapping[str, object] | None = None
        if phase is Phase.SUCCEEDED:
            if not state.described:
                state = await self._job(job, call, None)  # all of it may say where the result is
            try:
                outputs = await job_outputs(job, state, call)
            except InvalidTask as error:
                # Raised, it would be FAILED as well, but without the job's numbers.
                phase, message = Phase.FAILED, error.message
        numbers = job_statistics(state)
        return Status(
            phase,
            message or None,
            code=code,
            outputs=outputs,
            info=job_info(state, numbers),
            statistics=numbers,
            started=moment(state.statistics.get("startTime")),
            ended=moment(state.statistics.get("endTime")),
        )

    async def cancel(self, job: BigQueryJob, call: Call) -> None:
        """A script's job takes its children with it."""
        if job.dry_bytes is not None:
            return

        async def ask(params: Params) -> None:
            no_page(await call.http.post(f"{job.path}/cancel", params=params))

        await self._where_it_is(job, ask)

    async def logs(self, job: BigQueryJob, call: Call, token: str, lines: int) -> LogPage:
        if job.dry_bytes is not None:
            return LogPage(())
        state = await self._job(job, call, None)
        children = await child_jobs(job, call) if state.children else ()
        return page(log_lines(state, children), token, lines)

    async def check(self, call: Call) -> str:
        return await check_all(
            own=lambda: self._check_own(call),
            tenants={} if self.settings.anonymous else self.settings.credentials,
            tenant=lambda named: self._check_tenant(named, call),
        )

    async def _check_own(self, call: Call) -> str:
        await call.http.get("/projects", params={"maxResults": 1})
        if self.settings.anonymous:
            return f"{self.settings.url} answers; no credentials are sent"
        return f"BigQuery accepts {(await self._source(call)).shown}"

    async def _check_tenant(self, named: str, call: Call) -> str:
        source = await self._named(named, call)
        await self._tokens.get(source, call)
        return f"there is a token for {source.shown}"

    async def _source(self, call: Call) -> Source:
        """The credentials of a call: the task's own, those that the settings give its project and
        domain, the service's, or Google's defaults."""
        sent = await call.sent_secret(SECRET)
        if sent is not None:
            return Source(key=sent, shown=f"the secret {SECRET} that the task sends")
        named = for_tenant(self.settings.credentials, call.identity)
        if named is not None:
            return await self._named(named, call)
        key = await call.find_secret(SECRET)
        return Source() if key is None else Source(key=key, shown=f"the secret {SECRET}")

    async def _asked_as(self, call: Call) -> str:
        """Whom Google has refused, which its own words do not say."""
        try:
            shown = (await self.endpoint(None, call)).shown
        except AgentError:  # the job has ended, whatever becomes of tokens
            return ""
        return f" | credentials: {shown}" if shown else ""

    async def _obtain(self, source: Source, call: Call) -> GoogleToken:
        trust = Trust(self.settings.key_hosts, self.settings.federated_secrets)
        return await call.blocking(obtain, source, self.settings.scopes, trust)

    async def _named(self, named: str, call: Call) -> Source:
        """What a setting names: a service account, or else a secret."""
        if "@" in named:
            return Source(impersonate=named, shown=f"the service account {named}")
        return Source(key=await call.secret(named), shown=f"the secret {named}")

    async def _existing(self, job: BigQueryJob, reply: Reply, call: Call) -> BigQueryJob:
        """The job that has our id already: our own, made by an earlier request for this key."""
        reason, message = reasons.words(reply)
        if reason not in ("duplicate", ""):
            raise Unavailable(message or "BigQuery answered 409", code=reason or None)
        if reasons.names_something_else(message):
            raise InvalidTask(message, code=reason or None)
        job = places.told_by_conflict(job, message)
        try:
            there = await self._job(job, call, "jobReference,configuration(labels)")
        except JobNotFound:
            # Answered without its place, the job could not be polled either.
            if job.location is None:
                raise Unavailable(f"BigQuery has a job {job} and does not say where") from None
            if not reason:
                raise Unavailable("a 409 came that is not of BigQuery's own words") from None
            return job  # a new job may take minutes to be seen; polls sort it out
        if _is_anothers(there, call):
            raise JobConflict(_other_work(job))
        return places.told(job, there)

    async def _job(self, job: BigQueryJob, call: Call, fields: str | None) -> JobResource:
        return (await self._reply(job, call, fields)).into(JobResource)

    async def _reply(self, job: BigQueryJob, call: Call, fields: str | None) -> Reply:
        async def ask(params: Params) -> Reply:
            return await call.http.get(job.path, params={**params, "fields": fields})

        return await self._where_it_is(job, ask)

    async def _where_it_is(self, job: BigQueryJob, ask: Callable[[Params], Awaitable[T]]) -> T:
        """What `ask` comes to in the first place that has the job. Raises JobNotFound."""
        for location in places.to_look(job, self.settings):
            with contextlib.suppress(JobNotFound):
                return await ask({"location": location})
        raise JobNotFound(f"BigQuery has no job {job}")


def _resource(reply: Reply) -> JobResource:
    try:
        return JobResource.model_validate(reply.json())
    except ValueError:
        # The insert may have been done; asked again under the same id, BigQuery tells.
        raise Unavailable("BigQuery's reply to the insert is not a job") from None


def _is_anothers(there: JobResource, call: Call) -> bool:
    # An answer without a configuration has no labels to judge by, and is no proof.
    return there.described and does_other_work(there.configuration.labels, call.fingerprint)


def _other_work(job: BigQueryJob) -> str:
    return f"BigQuery has a job {job} already, and it does other work than this task"


def _dry(job: BigQueryJob, call: Call) -> Status:
    numbers = {"bytes_processed": job.dry_bytes or 0}
    info = {"state": "DONE", **numbers}
    if call.declared:
        text = "a dry run has no result, and the task declares an output"
        return Status(Phase.FAILED, text, info=info)
    return Status(Phase.SUCCEEDED, outputs={}, info=info, statistics=numbers)
