"""The agent: what is asked of quarry in each call."""

from __future__ import annotations

from collections.abc import Sequence

from flyteagents import (
    Agent,
    Call,
    Endpoint,
    InvalidTask,
    JobConflict,
    Link,
    LogLine,
    LogPage,
    Phase,
    Status,
    Task,
)
from flyteagents.kit.credentials import check_all
from flyteagents.kit.pages import page
from flyteagents.kit.tokens import Token, Tokens
from quarry_agent import known_keys
from quarry_agent.config import QuarryConfig
from quarry_agent.credentials import Client, client_of, obtain
from quarry_agent.job import QuarryJob
from quarry_agent.outputs import job_outputs
from quarry_agent.reasons import failure
from quarry_agent.request import FINGERPRINT, submit_body
from quarry_agent.settings import QuarrySettings
from quarry_agent.states import PHASES, Statement


class QuarryAgent(Agent[QuarrySettings, QuarryConfig, QuarryJob]):
    """Runs a statement as a job; quarry has one job for each key."""

    task_type = "quarry_statement"
    name = "Quarry"
    idempotency = "vendor"

    async def open(self) -> None:
        self._tokens: Tokens[Client, Token] = Tokens(self._obtain)

    async def close(self) -> None:
        self._tokens.close()

    async def endpoint(self, of: object, call: Call) -> Endpoint:
        token = await self._tokens.get(await client_of(call, self.settings), call)
        return Endpoint(self.settings.url, bearer=token.value)

    def links(self, job: QuarryJob) -> Sequence[Link]:
        return [Link("Quarry", f"{self.settings.url}{job.path}")]

    def warnings(self, task: Task[QuarryConfig]) -> Sequence[str]:
        return known_keys.warnings(task)

    async def create(self, task: Task[QuarryConfig], call: Call) -> QuarryJob:
        made = await call.http.post("/statements", into=Statement, json=submit_body(task))
        if not task.fingerprint.matches(made.tags.get(FINGERPRINT, "")):
            raise JobConflict(f"quarry's job {made.id} has our key and does other work")
        return QuarryJob(id=made.id)

    async def get(self, job: QuarryJob, call: Call) -> Status:
        found = await call.http.get(job.path, into=Statement)
        phase, message, code = PHASES.get(found.state), found.error, found.code
        outputs = None
        if phase is Phase.FAILED:
            phase, message, code = await failure(found, call)
        if phase is Phase.SUCCEEDED:
            try:
                outputs = job_outputs(found, call)
            except InvalidTask as error:
                phase, message = Phase.FAILED, error.message
        return Status(
            phase,
            message or None,
            code=code or None,
            outputs=outputs,
            statistics={} if found.rows is None else {"rows": found.rows},
            cancelling=found.state == "STOPPING",
        )

    async def cancel(self, job: QuarryJob, call: Call) -> None:
        await call.http.post(f"{job.path}/cancel")

    async def logs(self, job: QuarryJob, call: Call, token: str, lines: int) -> LogPage:
        found = await call.http.get(job.path, into=Statement)
        return page([LogLine(text) for text in found.log], token, lines)

    async def check(self, call: Call) -> str:
        return await check_all(
            own=lambda: self._check_own(call),
            tenants=self.settings.credentials,
            tenant=lambda secret: self._check_tenant(secret, call),
        )

    async def _check_own(self, call: Call) -> str:
        await call.http.get("/statements", params={"limit": 1})
        return f"quarry accepts the client {self.settings.client_id}"

    async def _check_tenant(self, secret: str, call: Call) -> str:
        client = Client(self.settings.client_id, await call.secret(secret))
        await self._tokens.get(client, call)
        return f"there is a token for the secret {secret}"

    async def _obtain(self, client: Client, call: Call) -> Token:
        return await obtain(client, call, self.settings)
