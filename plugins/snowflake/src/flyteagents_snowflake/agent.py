"""The agent: what is asked of Snowflake in each call.

https://docs.snowflake.com/en/developer-guide/sql-api/reference

What keeps an attempt to one statement is its requestId, which follows from the task's key and goes
with `retry=true` always, since no replica knows whether another one has sent it. Snowflake promises
that a statement that has succeeded is not run again; of one that runs, or has failed, it says
nothing. So there is `find_by_tag`, which looks before anything is sent a second time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

from flyteagents import (
    Agent,
    AgentError,
    Call,
    Endpoint,
    Idempotency,
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
from flyteagents.kit.answers import json_object, moment, no_page
from flyteagents.kit.credentials import check_all
from flyteagents.kit.pages import page
from flyteagents.kit.texts import excerpt
from flyteagents.kit.tokens import Token, Tokens
from flyteagents_snowflake import credentials, history, known_keys, reasons
from flyteagents_snowflake.answers import RUNS, Answer, answer
from flyteagents_snowflake.config import SnowflakeConfig
from flyteagents_snowflake.credentials import Source
from flyteagents_snowflake.failures import failed
from flyteagents_snowflake.history import STATEMENTS, Desk
from flyteagents_snowflake.job import SnowflakeJob
from flyteagents_snowflake.logs import log_lines
from flyteagents_snowflake.outputs import job_outputs
from flyteagents_snowflake.places import Account
from flyteagents_snowflake.request import Submit, named, place_of, submit
from flyteagents_snowflake.sent import Sent
from flyteagents_snowflake.settings import SnowflakeSettings
from flyteagents_snowflake.states import phase_of
from flyteagents_snowflake.statistics import (
    FROM_HISTORY,
    Numbers,
    history_numbers,
    job_info,
    statement_numbers,
)

HISTORY_LIMIT = 1.5
"""Seconds that a result waits for the numbers of the query history."""
# The names that the SDKs' own connectors give them, which users of the tasks know.
_LINKS = {"flytekit": "Snowflake Query Details", "flyte-sdk": "Snowflake Dashboard"}


class SnowflakeAgent(Agent[SnowflakeSettings, SnowflakeConfig, SnowflakeJob]):
    """Runs a statement, or several, whose requestId follows from the task's key."""

    task_type = "snowflake"
    name = "Snowflake Connector"
    idempotency = "vendor"
    hosts = ("*.snowflakecomputing.com", "*.snowflakecomputing.cn")
    may_end_soon = True

    @classmethod
    def promises(cls, settings: SnowflakeSettings) -> Idempotency:
        return "lookup" if settings.find_by_tag else cls.idempotency

    @classmethod
    def caveat(cls, settings: SnowflakeSettings) -> str:
        if settings.find_by_tag:
            return (
                "a first send is not looked up, so a CreateTask that Flyte repeats on another "
                "replica may start a second statement unless the first one has succeeded"
            )
        return (
            "Snowflake promises this for a statement that has succeeded; one whose reply was lost "
            "may run twice if it still ran, or failed, when it was asked for again "
            "(FLYTEAGENTS_SNOWFLAKE_FIND_BY_TAG=true looks first)"
        )

    async def open(self) -> None:
        self._tokens: Tokens[Source, Token] = Tokens(credentials.obtain)
        self._sent = Sent()

    async def close(self) -> None:
        self._tokens.close()

    async def endpoint(
        self, of: Task[SnowflakeConfig] | SnowflakeJob | None, call: Call
    ) -> Endpoint:
        source = await self._source(of, call)
        token = await self._tokens.get(source, call)
        return Endpoint(source.url, token.value, source.headers, shown=source.shown)

    def explain(self, reply: Reply) -> AgentError | None:
        return reasons.explain(reply)

    def warnings(self, task: Task[SnowflakeConfig]) -> Sequence[str]:
        return known_keys.warnings(task)

    def fingerprint(self, task: Task[SnowflakeConfig]) -> Mapping[str, object]:
        return {"statement": task.statement, "inputs": task.inputs, "config": task.config.work()}

    def links(self, job: SnowflakeJob) -> Sequence[Link]:
        return [Link(_LINKS[job.sdk], Account(job.account).query_page(job.query_id))]

    async def find(self, task: Task[SnowflakeConfig], call: Call) -> SnowflakeJob | None:
        """Only with `find_by_tag`. A first send is not looked for; an earlier attempt's that is
        nowhere to be seen may be on its way still, and asking for it under its own requestId
        keeps it from becoming a second one."""
        if not call.settling and not self._sent.has(task.key):
            return None
        asked = submit(task, self.settings)
        found = await self._by_tag(task, asked, call)
        if found is not None or not call.settling:
            return found
        return await self._submit(task, asked, call)

    async def create(self, task: Task[SnowflakeConfig], call: Call) -> SnowflakeJob:
        asked = submit(task, self.settings)
        try:
            return await self._submit(task, asked, call)
        # The reply may be lost and the statement running, for which a repeated requestId
        # promises nothing.
        except VendorError:
            if not self.settings.find_by_tag:
                raise
            found = await self._by_tag(task, asked, call)
            if found is None:
                raise
            return found

    async def get(self, job: SnowflakeJob, call: Call) -> Status:
        try:
            reply = await self._reply(job.query_id, call)
            # At any other answer the history may be asked too, which has news of its own.
            if reply.status == RUNS and (same := call.unchanged(reply)) is not None:
                return same
            found = _answer(job.query_id, reply)
        except JobNotFound:
            if not job.foreign:
                raise
            # The SQL API need not know what a driver has started; the query history knows both.
            return await self._of_history(job, call)
        started = moment(found.created)
        if found.running:
            # The SQL API does not tell a statement that runs from one that waits for a warehouse.
            # Its message is the same always.
            return Status(Phase.RUNNING, info=job_info(job, {}), started=started)
        if found.succeeded:
            return await self._succeeded(job, found, call)
        # Not retryable: the statement has run, and a retry would run it a second time.
        if found.code == reasons.EXPIRED:
            text = "it has ended, and Snowflake does not keep its result any longer"
            text = f"{text} | query={job.query_id}"
            return Status(Phase.FAILED, text, code=found.code, info=job_info(job, {}))
        # What failed comes with 422; of what did not succeed, a 200 is for the cancelled alone.
        if found.status == 200 and found.code not in reasons.CANCELLED:
            return Status(None, started=started)  # a state that Snowflake did not have
        return failed(job, found)

    async def cancel(self, job: SnowflakeJob, call: Call) -> None:
        """Each statement of several by itself: one that has ended must not keep the others.

        Snowflake has one answer for a statement that has ended and for one that it does not know;
        the next poll tells which."""
        handles = [job.query_id]
        if job.several:
            with contextlib.suppress(AgentError):  # stopping the request should stop them too
                handles += (await self._answer(job.query_id, call)).handles

        async def stop(handle: str) -> Reply:
            reply = no_page(await call.http.post(f"{STATEMENTS}/{handle}/cancel", accept=(422,)))
            if reply.status == 422:
                answer(reply, Answer)  # that it has ended already is for Snowflake to say
            return reply

        outcome, *_ = await asyncio.gather(*map(stop, handles), return_exceptions=True)
        gone = isinstance(outcome, Reply) and json_object(outcome).get("code") == reasons.GONE
        if job.foreign and (isinstance(outcome, JobNotFound) or gone):
            await history.cancel_query(_desk(job), job.query_id, call)
        elif isinstance(outcome, BaseException):
            raise outcome

    async def logs(self, job: SnowflakeJob, call: Call, token: str, lines: int) -> LogPage:
        found = await self._answer(job.query_id, call)
        children = [await self._answer(handle, call) for handle in found.handles[:50]]
        return page(log_lines(found, children), token, lines)

    async def check(self, call: Call) -> str:
        return await check_all(
            own=lambda: self._check_own(call),
            tenants=self.settings.credentials,
            tenant=lambda name: self._check_tenant(name, call),
        )

    async def _check_own(self, call: Call) -> str:
        settings = self.settings
        if not settings.account or not settings.user:
            return (
                "settings are valid; to try credentials set FLYTEAGENTS_SNOWFLAKE_ACCOUNT and "
                "FLYTEAGENTS_SNOWFLAKE_USER"
            )
        source = await self._source(None, call)
        desk = Desk(settings.database, settings.warehouse, settings.role)
        # A text costs nothing and needs no warehouse.
        [row] = await history.ask(desk, "SELECT CURRENT_USER(), ?", "flyteagents", call)
        return f"{source.url} accepts {source.shown}; the user is {next(iter(row.values()))}"

    async def _check_tenant(self, name: str, call: Call) -> str:
        """Whose user it is, and of which account, only a task says, so Snowflake is not asked."""
        source = await credentials.source_named(call, name, "ANY.USER", "")
        if credentials.asks_its_account(source):
            return f"{source.shown} is there"
        await self._tokens.get(source, call)
        return f"there is a token for {source.shown}"

    async def _source(self, of: Task[SnowflakeConfig] | SnowflakeJob | None, call: Call) -> Source:
        settings = self.settings
        if isinstance(of, SnowflakeJob):
            place = vars(of)  # for each poll: a dump costs more
        elif of is not None:
            place = place_of(of, settings)
        else:
            place = {"account": settings.account, "user": settings.user}
        account = Account(str(place["account"]))
        url = settings.url or f"https://{place.get('host') or account.host()}"
        # In a JWT Snowflake takes the user's name in upper case only, however a task writes it.
        subject = f"{account.issuer}.{str(place['user']).upper()}"
        return await credentials.source_of(call, settings, subject, url, place.get("login"))

    async def _submit(self, task: Task[SnowflakeConfig], asked: Submit, call: Call) -> SnowflakeJob:
        # Before the request: one whose reply is lost may have arrived all the same.
        self._sent.add(task.key)
        # async: else Snowflake may hold the reply for longer than Flyte waits for a CreateTask
        # (docs/design.md, rule 3).
        params = {"requestId": str(task.key.uuid), "retry": "true", "async": "true"}
        try:
            reply = await call.http.post(
                STATEMENTS, params=params, json=asked.body, accept=(408, 422)
            )
        except reasons.Started as running:
            return _made(asked, running.handle)
        # A 404 is documented for a wrong endpoint only; as JobNotFound it would be told as a bug.
        except JobNotFound as error:
            raise InvalidTask(
                f"there is no SQL API at this account; is its name right? {error.message}",
                code=error.code,
            ) from None
        found = answer(reply, Answer)
        # A statement that has failed already is a job too: GetTask tells its end, and why.
        if found.handle is not None:
            return _made(asked, found.handle)
        if found.running or found.succeeded:
            # It may run, and only the same requestId sent again can say under which id.
            raise Unavailable("Snowflake's reply to the submit names no statement")
        text = reasons.told(found.code, found.message)
        if reasons.ending(found.code, found.sql_state) is Phase.RETRYABLE_FAILED:
            raise Unavailable(text, code=found.code)
        raise InvalidTask(text, code=found.code)

    async def _by_tag(
        self, task: Task[SnowflakeConfig], asked: Submit, call: Call
    ) -> SnowflakeJob | None:
        desk = Desk(asked.kept["database"], asked.kept["warehouse"], asked.body.get("role"))
        several = bool(asked.kept.get("several"))
        found = await history.by_tag(desk, task.key.hex, call, several=several)
        if found is None:
            return None
        query_id, fingerprint = found
        if not task.fingerprint.matches(fingerprint):
            raise JobConflict(f"the query {query_id} has this attempt's key, and does other work")
        return _made(asked, query_id)

    async def _answer(self, handle: str, call: Call) -> Answer:
        return _answer(handle, await self._reply(handle, call))

    async def _reply(self, handle: str, call: Call) -> Reply:
        return await call.http.get(f"{STATEMENTS}/{handle}", accept=(408, 422))

    async def _succeeded(self, job: SnowflakeJob, found: Answer, call: Call) -> Status:
        handles = found.handles
        phase, message = Phase.SUCCEEDED, None
        outputs: Mapping[str, object] | None = None
        try:
            outputs = job_outputs(job, handles, call.declared)
        except InvalidTask as error:
            # Raised, it would be FAILED too (docs/design.md, error table), without the numbers.
            phase, message = Phase.FAILED, error.message
        numbers = statement_numbers(found)
        if handles:
            # The rows of a request of several only say that they were executed.
            numbers = {"statements": len(handles)}
        numbers.update(await self._history_numbers(job, call))
        return Status(
            phase,
            message,
            outputs=outputs,
            info=job_info(job, numbers),
            statistics=numbers,
            started=moment(found.created),
        )

    async def _history_numbers(self, job: SnowflakeJob, call: Call) -> Numbers:
        """None where they do not come at once: the result must not wait for them."""
        if not self.settings.history:
            return {}
        columns = tuple(FROM_HISTORY.values())
        try:
            asking = history.by_id(_desk(job), job.query_id, columns, call)
            row = await asyncio.wait_for(asking, HISTORY_LIMIT)
        except (AgentError, asyncio.TimeoutError):
            return {}
        return history_numbers(row or {})

    async def _of_history(self, job: SnowflakeJob, call: Call) -> Status:
        """How a query does that the SQL API does not know, since a driver has started it."""
        columns = ("EXECUTION_STATUS", "ERROR_CODE", "ERROR_MESSAGE")
        row = await history.by_id(_desk(job), job.query_id, columns, call)
        if row is None:
            raise JobNotFound(f"Snowflake's query history has no query {job.query_id}")
        phase = phase_of(row["execution_status"] or "")
        if phase is Phase.SUCCEEDED:
            outputs = job_outputs(job, (), call.declared)
            return Status(phase, outputs=outputs, info=job_info(job, {}))
        text, code = row["error_message"] or None, row["error_code"] or None
        text = text and f"{reasons.words(text)} | query={job.query_id}"
        if phase is Phase.FAILED and code in reasons.CANCELLED:
            phase = Phase.ABORTED
        return Status(phase, text, code=code, info=job_info(job, {}))


def _made(asked: Submit, query_id: str) -> SnowflakeJob:
    try:
        return named(asked.kept, query_id)
    except ValueError:
        raise Unavailable(f"Snowflake named the statement {excerpt(query_id, 60)!r}") from None


def _answer(handle: str, reply: Reply) -> Answer:
    found = answer(reply, Answer)
    if found.code == reasons.GONE:
        raise JobNotFound(f"Snowflake has no statement {handle}", code=found.code)
    return found


def _desk(job: SnowflakeJob) -> Desk:
    return Desk(job.database, job.warehouse)
