"""An agent's methods called directly, in one process, with a real `Call` and no server.

For tests of an agent's dialect: what it sends for a task, and what it makes of each answer. What
the kernel adds (one job for an attempt, deadlines, parked failures) is what `AgentContract` tests,
with real servers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, cast

from flyteagents._agent import Agent, AgentBase, SyncAgent
from flyteagents._call import Call
from flyteagents._client.attempt import Attempt, FlyteTask, Generation
from flyteagents._client.templates import Declared, task_template
from flyteagents._job import JobT
from flyteagents._kernel.call import KernelCall
from flyteagents._kernel.keys import key_of
from flyteagents._kernel.offered import models_of, offer
from flyteagents._kernel.plugins import Plugin
from flyteagents._kernel.requests import Connection
from flyteagents._kernel.served import ServedAgent
from flyteagents._kernel.settings import KernelSettings
from flyteagents._kernel.tasks import build_task
from flyteagents._settings import Settings, SettingsT
from flyteagents._status import LogPage, Status
from flyteagents._task import ConfigT, Identity, Key, Task
from flyteagents._types import Type
from flyteagents._vendor.budget import Budget
from flyteagents._vendor.secrets import Secrets
from flyteagents._wire.messages import codec, create_request

if TYPE_CHECKING:
    from typing_extensions import Unpack

EnvironmentT = TypeVar("EnvironmentT", bound="_Environment[Any, Any]")
_ONCE = ("get", "cancel")
"""Operations whose requests are not repeated: the next poll, or the next cancel, is the retry."""
_UNSENT = ("cancel", "logs")
"""Operations for which Flyte sends no output prefix."""


class Surroundings(TypedDict, total=False):
    """What an agent finds around itself.

    secrets: what the operator has, by name. allow_hosts: as `FLYTEAGENTS_ALLOW_HOSTS`.
    project, domain: of tasks and calls that name none ("tests", "development").
    seconds: what a call has to answer in (5).
    """

    secrets: Mapping[str, str]
    allow_hosts: Sequence[str]
    project: str
    domain: str
    seconds: float


class Sending(TypedDict, total=False):
    """How a task is sent. attempt: 0 for the first. base: what output prefixes begin with."""

    execution: str
    attempt: int
    generation: Generation
    project: str
    domain: str
    base: str


class Written(Sending, total=False):
    """A task as its author writes it; see `task_template`."""

    custom: Mapping[str, object]
    config: Mapping[str, str]
    sql: str
    inputs: Mapping[str, object]
    interface: Mapping[str, Declared]
    outputs: Mapping[str, Declared]
    timeout: float | timedelta
    retries: int
    image: str
    args: Sequence[str]
    name: str


class CallOptions(TypedDict, total=False):
    """What a call is about, instead of what its task says.

    made_for: the job's task; a call about a job knows of it what an envelope keeps.
    identity: who asks; project and domain go before it.
    sent_secrets, configs: of a Flyte 2 connection. seconds: left to answer in.
    """

    made_for: Task[Any] | None
    declared: Mapping[str, Type]
    identity: Identity
    project: str
    domain: str
    output_prefix: str
    sent_secrets: Mapping[str, str]
    configs: Mapping[str, str]
    adopted: bool
    fresh: bool
    settling: bool
    seconds: float


class _Environment(Generic[SettingsT, ConfigT]):
    """What both kinds of agents share."""

    def __init__(
        self,
        agent: type[AgentBase[SettingsT, ConfigT]],
        settings: SettingsT | None,
        around: Surroundings,
    ) -> None:
        self._cls, self._around = agent, around
        self._served = _serve(agent, settings, around)

    async def __aenter__(self: EnvironmentT) -> EnvironmentT:
        await self._served.open()
        await self._served.warm()  # `seconds` of a call are for the vendor
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._served.close()

    def task(self, **written: Unpack[Written]) -> Task[ConfigT]:
        """A task as it comes out of the messages that Flyte sends. Raises InvalidTask."""
        options = cast("dict[str, Any]", written)
        sending = {
            name: options.pop(name) for name in options.keys() & Sending.__annotations__.keys()
        }
        return self.read(task_template(self._cls.task_type, **options), **cast("Sending", sending))

    def read(self, task: FlyteTask, **sent: Unpack[Sending]) -> Task[ConfigT]:
        """As `task`, of a template that is there, such as one that an SDK has serialized."""
        attempt = Attempt(
            task,
            execution=sent.get("execution", "run"),
            number=sent.get("attempt", 0),
            generation=sent.get("generation", 1),
            base=sent.get("base", "s3://flyte"),
            project=sent.get("project", self._owner.project),
            domain=sent.get("domain", self._owner.domain),
        )
        raw = attempt.create_request().SerializeToString()
        request = create_request(raw, attempt.generation)
        key = key_of("", request.task_type, request.output_prefix)
        return build_task(self._served, request, key)

    def call(self, operation: str, of: object = None, **options: Unpack[CallOptions]) -> Call:
        """The `Call` that goes with an operation: create, find, get, cancel, logs, run or check.
        of: the `Task` or the `Job`."""
        task = of if isinstance(of, Task) else options.get("made_for")
        identity = self._owner
        declared: Mapping[str, Type] = {}
        prefix = ""
        if task is not None:
            identity = task.identity if task is of else _kept(task.identity)
            declared = task.declared
            prefix = "" if operation in _UNSENT else task.output_prefix
        identity = options.get("identity", identity)
        seconds = options.get("seconds", self._around.get("seconds", 5.0))
        return KernelCall(
            served=self._served,
            operation=operation,
            identity=replace(
                identity,
                project=options.get("project", identity.project),
                domain=options.get("domain", identity.domain),
            ),
            budget=Budget(time.monotonic() + seconds, retries=operation not in _ONCE),
            of=of,
            task_type=task.type if task else self._served.task_type,
            key=task.key if task else Key(""),
            fingerprint=task.fingerprint if task else None,
            settling=options.get("settling", False),
            adopted=options.get("adopted", False),
            output_prefix=options.get("output_prefix", prefix),
            declared=options.get("declared", declared),
            connection=Connection(options.get("sent_secrets", {}), options.get("configs", {})),
            fresh=options.get("fresh", False),
        )

    async def check(self, **options: Unpack[CallOptions]) -> str:
        """What `flyteagents check` would show."""
        said: str = await self._agent.check(self.call("check", **options))
        return said

    @property
    def _owner(self) -> Identity:
        return Identity(
            project=self._around.get("project", "tests"),
            domain=self._around.get("domain", "development"),
        )

    @property
    def _agent(self) -> Any:
        return self._served.agent


class AgentEnvironment(_Environment[SettingsT, ConfigT], Generic[SettingsT, ConfigT, JobT]):
    """Serves one agent to a test. Entering it opens the agent; its pure methods, tasks and calls
    need no entering.

    ```python
    async with FakeAcme() as vendor:
        settings, secrets = AcmeSettings(url=vendor.url), {"acme_token": "x"}
        async with AgentEnvironment(AcmeAgent, settings=settings, secrets=secrets) as env:
            task = env.task(custom={"script": "sleep 1"}, outputs={"rows": int})
            job = await env.create(task)
            assert (await env.get(job)).phase is Phase.RUNNING
    ```
    settings: None takes the defaults. around: see `Surroundings`.

    A job that `create` or `find` has named belongs to its task: later calls about it know of the
    task what a server's envelope would keep. Methods raise what the agent raises, and take the
    options of `call`.
    """

    def __init__(
        self,
        agent: type[Agent[SettingsT, ConfigT, JobT]],
        *,
        settings: SettingsT | None = None,
        **around: Unpack[Surroundings],
    ) -> None:
        super().__init__(agent, settings, around)
        self._tasks: dict[str, Task[ConfigT]] = {}

    @property
    def agent(self) -> Agent[SettingsT, ConfigT, JobT]:
        """The agent itself, for its pure methods: `handle`, `links`, `fingerprint`."""
        return cast("Agent[SettingsT, ConfigT, JobT]", self._agent)

    async def create(self, task: Task[ConfigT], **options: Unpack[CallOptions]) -> JobT:
        """Start the task's job."""
        return self._of(task, await self.agent.create(task, self.call("create", task, **options)))

    async def find(self, task: Task[ConfigT], **options: Unpack[CallOptions]) -> JobT | None:
        """Look the task's job up."""
        job = await self.agent.find(task, self.call("find", task, **options))
        return None if job is None else self._of(task, job)

    async def get(self, job: JobT, **options: Unpack[CallOptions]) -> Status:
        """How the job is doing."""
        return await self.agent.get(job, self._about("get", job, options))

    async def cancel(self, job: JobT, **options: Unpack[CallOptions]) -> None:
        """Ask the vendor to stop the job."""
        await self.agent.cancel(job, self._about("cancel", job, options))

    async def logs(
        self, job: JobT, token: str = "", lines: int = 100, **options: Unpack[CallOptions]
    ) -> LogPage:
        """A page of the job's log."""
        return await self.agent.logs(job, self._about("logs", job, options), token, lines)

    async def until(
        self,
        job: JobT,
        reached: Callable[[Status], bool] | None = None,
        *,
        within: float = 30.0,
        every: float = 0.02,
        **options: Unpack[CallOptions],
    ) -> Status:
        """Poll until a status is as `reached` says, or without it has a terminal phase. Raises
        asyncio.TimeoutError, with the last status."""
        end = time.monotonic() + within
        while True:
            status = await self.get(job, **options)
            if reached(status) if reached else status.phase is not None and status.phase.terminal:
                return status
            if time.monotonic() > end:
                raise asyncio.TimeoutError(f"after {within:g} s it is still {status}")
            await asyncio.sleep(every)

    async def run(
        self, task: Task[ConfigT], *, within: float = 30.0, **options: Unpack[CallOptions]
    ) -> Status:
        """The task from its begin to its end."""
        job = await self.create(task, **options)
        return await self.until(job, within=within, **options)

    def _of(self, task: Task[ConfigT], job: JobT) -> JobT:
        self._tasks[job.model_dump_json()] = task
        return job

    def _about(self, operation: str, job: JobT, options: CallOptions) -> Call:
        options.setdefault("made_for", self._tasks.get(job.model_dump_json()))
        return self.call(operation, job, **options)


class SyncAgentEnvironment(_Environment[SettingsT, ConfigT]):
    """As `AgentEnvironment`, for a `SyncAgent`."""

    def __init__(
        self,
        agent: type[SyncAgent[SettingsT, ConfigT]],
        *,
        settings: SettingsT | None = None,
        **around: Unpack[Surroundings],
    ) -> None:
        super().__init__(agent, settings, around)

    @property
    def agent(self) -> SyncAgent[SettingsT, ConfigT]:
        return cast("SyncAgent[SettingsT, ConfigT]", self._agent)

    async def run(
        self, task: Task[ConfigT], **options: Unpack[CallOptions]
    ) -> Mapping[str, object]:
        """The task's outputs. options: of `call`."""
        return await self.agent.run(task, self.call("run", task, **options))


def _kept(identity: Identity) -> Identity:
    """What an envelope keeps of it, for the calls about a job."""
    return Identity(
        project=identity.project,
        domain=identity.domain,
        execution=identity.execution,
        node=identity.node,
        attempt=identity.attempt,
    )


def _serve(
    cls: type[AgentBase[Any, Any]], settings: Settings | None, around: Surroundings
) -> ServedAgent:
    models = models_of(cls)
    # Not the tester's own variables.
    made = models.settings(_env_prefix="NOT_READ_") if settings is None else settings
    module = cls.__module__.partition(".")[0]
    offered = offer(cls, models, made)
    plugin = Plugin(module, module, "0", module, [offered])
    hosts = tuple(around.get("allow_hosts", ()))
    served = ServedAgent(plugin, offered, KernelSettings(allow_hosts=hosts), codec=codec())
    served.secrets = _Given(around.get("secrets", {}))
    return served


class _Given(Secrets):
    """An operator's secrets without variables or files."""

    def __init__(self, given: Mapping[str, str]) -> None:
        super().__init__(None)
        self._given = given

    def find(self, name: str, connection: Mapping[str, str]) -> str | None:
        return super().find(name, {**self._given, **connection})
