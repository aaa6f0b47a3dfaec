"""A fake FlytePropeller, and Flyte 2 executor, that calls a real server as they do.

It adds to `Execution` what belongs to a whole control plane: Flyte's own intervals, scaled; the
watch over ListAgents; the workers that all polls share; and the secrets of Flyte 2.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace

from flyteidl.core import tasks_pb2

from flyteagents._client.attempt import Attempt, FlyteTask, Generation
from flyteagents._client.caller import Caller
from flyteagents._client.execution import Execution
from flyteagents._client.outcome import Outcome
from flyteagents._client.polls import ROUNDS, Rules
from flyteagents._wire.structs import from_struct

WATCH = 10.0
"""Seconds between two ListAgents, before they are scaled."""
RESYNC, REEVALUATE = 30.0, 10.0
RETRY_PAUSE = {1: 0.1, 2: 0.07}
"""Not scaled: this is how soon the next attempt really comes."""
DELETE_PAUSE = {1: 1.0, 2: 10.0}


class FakePropeller(Caller):
    """Carries tasks through their attempts against the servers at `endpoints`.

    ```python
    async with FakePropeller(first.endpoint, second.endpoint) as propeller:
        outcome = await propeller.run(task_template("acme_job", custom={"script": "sleep 1"}))
        assert outcome.phase is Phase.SUCCEEDED
        assert outcome.failures == []
    ```
    What it does as the real ones do: each call has a deadline and goes to the next replica; a
    failed CreateTask ends the attempt, and the next one follows 0.1 s later with the next output
    prefix and without a DeleteTask; polls begin at once, overlap when they are slow, and stop for
    ever after six failures; DeleteTask precedes a retry after RETRYABLE_FAILED, is tried eleven
    times, and in Flyte 2, where an abort tries it for ever, also follows the end; ListAgents comes
    on a connection of its own.

    scale: what Flyte's intervals (30 s between polls, 10 s between rounds) are multiplied by.
        Deadlines are not scaled: see `deadline` and `deadlines` of `Caller`.
    base: what output prefixes begin with; a local folder where jobs write files.
    collect_after: seconds after which Flyte 2 collects a task that has ended.
    secrets: what Flyte 2's secret manager knows, by name. Without one a task that has secrets in
        its `custom` is not sent (`NotSent`), as in the open-source executor.
    agents: task type to whether it is synchronous, as ListAgents said last.
    The single calls (`create`, `get`, `delete`, `run_sync`, `list_agents`) can be made by
    themselves too, with `attempt(...)`.
    """

    def __init__(
        self,
        *endpoints: str,
        generation: Generation = 1,
        scale: float = 0.005,
        deadline: float | None = 10.0,
        deadlines: Mapping[str, float | None] | None = None,
        wait_for_ready: bool = False,
        base: str = "s3://flyte",
        collect_after: float = 0.05,
        secrets: Mapping[str, str] | None = None,
        workers: int = 10,
    ) -> None:
        super().__init__(
            *endpoints,
            generation=generation,
            deadline=deadline,
            deadlines=deadlines,
            wait_for_ready=wait_for_ready,
        )
        self.agents: Mapping[str, bool] = {}
        self._base = base
        self._secrets = secrets or {}
        self._workers = asyncio.Semaphore(workers)
        self._watching: asyncio.Task[None] | None = None
        self._watch_pause = max(WATCH * scale, 0.1)
        self._rules = Rules(
            resync=RESYNC * scale,
            reevaluate=REEVALUATE * scale,
            retry_pause=RETRY_PAUSE[generation],
            delete_pause=max(DELETE_PAUSE[generation] * scale, 0.05),
            deletes=ROUNDS if generation == 1 else None,
            collect_after=None if generation == 1 else collect_after,
        )

    async def __aenter__(self) -> FakePropeller:
        await super().__aenter__()
        self.agents = (await self.list_agents()).agents
        # Only after the first ListAgents, which Flyte waits for when it starts.
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *raised: object) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        await super().__aexit__(*raised)

    def attempt(self, task: FlyteTask, execution: str | None = None, *, number: int = 0) -> Attempt:
        """The attempt of a task, `number` from 0; of a new execution unless one is named.
        Raises NotSent where Flyte 2 would not call anyone."""
        secrets, configs = self._connection(task) if self.generation == 2 else ({}, {})
        attempt = Attempt(
            task,
            number=number,
            generation=self.generation,
            base=self._base,
            secrets=secrets,
            configs=configs,
        )
        return attempt if execution is None else replace(attempt, execution=execution)

    def start(
        self, task: FlyteTask, *, attempts: int = 1, repeats: int = 0, execution: str | None = None
    ) -> Execution:
        """Begin a task, which may have `attempts`; every CreateTask is repeated `repeats` times,
        as after a round whose state was lost."""
        # A copy: the same task may be under way in other executions, with other retries.
        template = tasks_pb2.TaskTemplate.FromString(task.template.SerializeToString())
        template.metadata.retries.retries = attempts - 1
        return Execution(
            self,
            self.attempt(replace(task, template=template), execution),
            self._rules,
            attempts=attempts,
            repeats=repeats,
            # Asked at each attempt: a type that one ListAgents left out counts as asynchronous.
            synchronous=lambda: self.agents.get(task.type, False),
            workers=self._workers,
        )

    async def run(
        self, task: FlyteTask, *, attempts: int = 1, repeats: int = 0, within: float = 60.0
    ) -> Outcome:
        """A task from its begin to its end, in at most `within` seconds."""
        return await self.start(task, attempts=attempts, repeats=repeats).end(within)

    def _connection(self, task: FlyteTask) -> tuple[dict[str, str], dict[str, str]]:
        """Flyte 2 reads the task's `custom` as a connection, with secrets by name."""
        if not task.template.HasField("custom"):
            raise NotSent("nil Struct Object passed")
        custom = from_struct(task.template.custom)
        wanted, configs = (_texts(custom.get(name, {}), name) for name in ("secrets", "configs"))
        if missing := set(wanted.values()) - self._secrets.keys():
            raise NotSent(f"failed to get secret {min(missing)}")
        return {name: self._secrets[secret] for name, secret in wanted.items()}, configs

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._watch_pause)
            # Where the call fails, the task types are gone until the next one.
            self.agents = (await self.list_agents()).agents


class NotSent(Exception):
    """What Flyte 2 fails a task for before it calls anyone."""


def _texts(part: object, name: str) -> dict[str, str]:
    if not isinstance(part, dict) or not all(isinstance(value, str) for value in part.values()):
        raise NotSent(f"failed to unmarshal the connection's {name}")
    return part
