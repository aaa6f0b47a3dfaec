"""What is asked of the Jobs API about one run: 2.2, or 2.1 where a workspace has only that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from flyteagents import Call, InvalidTask, JobNotFound, Reply, Unavailable
from flyteagents.kit.answers import no_page
from flyteagents_databricks import reasons
from flyteagents_databricks.failures import outputs_of
from flyteagents_databricks.run import PythonFile, Run, RunOutput, RunTask, Submitted

PAGES = 100
"""Pages of a run's tasks that are followed."""
CUT = 100
"""Letters to which a longer key of a task is cut in answers."""


def last_attempts(tasks: Sequence[RunTask]) -> list[RunTask]:
    """The tasks without the attempts that Databricks made again by itself, which are listed too.
    The last to start is the last one of the list."""
    last: dict[str, int] = {}
    for task in tasks:
        last[task.task_key] = max(task.attempt_number, last.get(task.task_key, 0))
    # Not one for each key, and all with one that may be cut: two tasks may have the same then.
    kept = [
        task
        for task in tasks
        if task.attempt_number == last[task.task_key] or len(task.task_key) >= CUT
    ]
    return sorted(kept, key=lambda task: task.start_time)


@dataclass
class Versions:
    """Which version of the API each workspace has, by its address."""

    known: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Runs:
    """The runs of one workspace, in one call; `number` is the run that it is about."""

    versions: Versions
    url: str
    call: Call
    number: int = 0

    async def submit(self, body: dict[str, Any]) -> int:
        """The number of the new run, or of that which has the body's idempotency token."""
        reply = await self._ask("POST", "runs/submit", json=body)
        try:
            return Submitted.model_validate(reply.json()).run_id
        except ValidationError:
            raise Unavailable("Databricks' reply to the submit names no run") from None

    async def get(self, token: str | None = None) -> Run:
        """The run, with the first page of its tasks or that of `token`."""
        return (await self.reply(token)).into(Run)

    async def reply(self, token: str | None = None) -> Reply:
        """The same, as Databricks wrote it."""
        params = {"run_id": self.number, "page_token": token}
        return await self._ask("GET", "runs/get", params=params)

    async def with_all_tasks(self, run: Run) -> Run:
        """The run with all of its tasks: they come a hundred a page, in no order."""
        tasks = list(run.tasks)
        token = run.next_page_token
        for _ in range(PAGES):
            if not token:
                break
            more = await self.get(token)
            tasks += more.tasks
            token = more.next_page_token
        tasks = last_attempts(tasks)
        if not tasks:  # a run in the shape of 2.0, which is its own task; nobody knows its file
            same = {"run_id": run.run_id, "state": run.state, "status": run.status}
            tasks = [RunTask(**same, spark_python_task=PythonFile())]
        return run.model_copy(update={"tasks": tasks})

    async def cancel(self) -> None:
        """Fine for a run that has ended."""
        try:
            no_page(await self._ask("POST", "runs/cancel", json={"run_id": self.number}))
        except InvalidTask as error:
            # DeleteTask is repeated, and after eleven errors Flyte aborts the whole workflow
            # (docs/design.md, rule 7).
            if error.code != "INVALID_STATE":
                raise

    async def output(self, task: RunTask) -> RunOutput:
        """What a task has left."""
        params = {"run_id": task.run_id}
        path = self._path("runs/get-output")
        return await self.call.http.get(path, into=RunOutput, params=params)

    async def outputs(self, tasks: Sequence[RunTask]) -> list[RunOutput | None]:
        """What these tasks have left; see `outputs_of`."""
        return await outputs_of(tasks, self.output)

    async def _ask(self, method: str, path: str, **sent: Any) -> Reply:
        request, known = self.call.http.request, self.versions.known
        if self.url not in known:
            reply = await request(method, self._path(path), accept=(404,), **sent)
            if reply.status != 404:
                known[self.url] = "2.2"
                return reply
            # Any other 404 is about the run or what it names, and says nothing of the version.
            if reasons.words(reply)[0] != reasons.NO_SUCH_API:
                raise reasons.explain(reply) or JobNotFound("Databricks answered 404")
            known[self.url] = "2.1"
        return await request(method, self._path(path), **sent)

    def _path(self, path: str) -> str:
        return f"/api/{self.versions.known.get(self.url, '2.2')}/jobs/{path}"
