"""What an author writes: one class for each task type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal

from flyteagents._call import Call
from flyteagents._config_keys import do_nothing, key_names
from flyteagents._errors import AgentError, Unsupported
from flyteagents._http import Endpoint, Reply
from flyteagents._job import JobT
from flyteagents._settings import SettingsT
from flyteagents._status import Link, LogPage, Status
from flyteagents._task import ConfigT, Task

Idempotency = Literal["vendor", "lookup", "none"]


class AgentBase(Generic[SettingsT, ConfigT]):
    """What asynchronous and synchronous agents share. Subclass `Agent` or `SyncAgent`.

    The kernel constructs the agent, sets `settings`, and opens it before it serves.
    """

    task_type: ClassVar[str]
    """The task type served, as it stands in the task template; where there are several, the one
    that names the agent in metrics and logs."""

    name: ClassVar[str] = ""
    """What ListAgents shows; the task type where empty."""

    hosts: ClassVar[Sequence[str]] = ()
    """Patterns of vendor hosts that get credentials, besides those named in the settings
    ("*.snowflakecomputing.com"). Hosts out of a task must match, or be allowed by the operator
    with `FLYTEAGENTS_ALLOW_HOSTS`."""

    settings: SettingsT

    @classmethod
    def serves(cls, settings: SettingsT) -> Sequence[str]:
        """The task types served with these settings, each routed to this one agent;
        `call.task_type` says which one a call is for."""
        return (cls.task_type,)

    def warnings(self, task: Task[ConfigT]) -> Sequence[str]:
        """What the task's author may have got wrong, in short sentences without secrets. The task
        runs all the same; `flyteagents run` prints them, and custom info has them as `warnings`.

        By default one for each key of the task's config that the model has no field for, unless it
        keeps such keys (`extra="allow"`): then the agent says what becomes of them, with
        `flyteagents.kit.config_keys`."""
        model = type(task.config)
        if not task.unread or model.model_config.get("extra") == "allow":
            return ()
        return do_nothing(task.unread, key_names(model))

    async def endpoint(self, of: Any, call: Call) -> Endpoint:
        """Where and how to reach the vendor for `of`: a `Task`, a `Job`, or None in `check`, which
        is about neither. Called before each request, so keep tokens (`flyteagents.kit.tokens`);
        after a 401 once more, with `call.fresh`. `call.http` works here for requests that have an
        `endpoint=` of their own.

        Raises Unauthenticated for a credential that is not there or cannot be read, which is told
        at once. Any VendorError says that it cannot be had *yet*: nothing has reached the vendor,
        so that is tried again within the call's time, and in `get` it is a hiccup."""
        raise Unsupported(f"{type(self).__name__} has no endpoint; define it to use call.http")

    def explain(self, reply: Reply) -> AgentError | None:
        """What an error reply of the vendor's means, where its HTTP status does not say it,
        or the vendor's errors are not JSON. None takes the kernel's reading of the status."""
        return None

    async def open(self) -> None:
        """Called once before serving. Do nothing slow: the server is not ready before it ends."""

    async def close(self) -> None:
        """Called once after the last call."""

    async def check(self, call: Call) -> str:
        """Try settings and credentials without starting anything; `flyteagents check` calls it
        and shows what is returned. Raises an `AgentError` that says what is wrong."""
        return "settings are valid; this agent has no check of its credentials"


class Agent(AgentBase[SettingsT, ConfigT], Generic[SettingsT, ConfigT, JobT]):
    """An agent for work that outlives the call. The three type arguments are the models of the
    plugin's settings, the task's `custom`, and the job.

    ```python
    class AcmeAgent(Agent[AcmeSettings, AcmeConfig, AcmeJob]):
        task_type = "acme_job"
        idempotency = "vendor"

        async def create(self, task: Task[AcmeConfig], call: Call) -> AcmeJob: ...
        async def get(self, job: AcmeJob, call: Call) -> Status: ...
        async def cancel(self, job: AcmeJob, call: Call) -> None: ...
    ```

    idempotency: "vendor" when a second create with the same `task.key` answers with the first
    one's job; "lookup" when `find` can tell whether there is one; "none" when neither. Where it
    follows from the settings, `promises` says it.
    All methods raise `AgentError`s; anything else counts as a bug in the agent.
    """

    idempotency: ClassVar[Idempotency]

    may_end_soon: ClassVar[bool] = False
    """Whether jobs may end within seconds. Then a job's first poll waits a moment for its end
    (`FLYTEAGENTS_FIRST_LOOK`): Flyte's second one comes up to half a minute later."""

    later_info: ClassVar[Mapping[str, object]] = {}
    """What custom info says of these keys once a job runs, where an answer leaves them out. Flyte 1
    merges the infos of a task's answers, so a key that is sent while the job waits and not at its
    end would stay: a job that has succeeded would be shown as "18 jobs ahead". None is
    refused: the first info is stored as it is, nulls and all
    (flyteadmin/pkg/repositories/transformers/task_execution.go, mergeCustom)."""

    @classmethod
    def promises(cls, settings: SettingsT) -> Idempotency:
        """The idempotency with these settings."""
        return cls.idempotency

    @classmethod
    def caveat(cls, settings: SettingsT) -> str:
        """When a second job is possible although the idempotency says otherwise, in a sentence
        that `flyteagents list` shows; nothing where that never is."""
        return ""

    async def create(self, task: Task[ConfigT], call: Call) -> JobT:
        """Start the job, or with idempotency "vendor" name the one that `task.key` has. Raises
        JobConflict when that one does other work (`task.fingerprint.matches`)."""
        raise NotImplementedError

    async def get(self, job: JobT, call: Call) -> Status:
        """How the job is doing. One request to the vendor at best."""
        raise NotImplementedError

    async def cancel(self, job: JobT, call: Call) -> None:
        """Ask the vendor to stop the job. The kernel asks again and polls until it has stopped.
        Must be safe for finished jobs, and never remove results."""
        raise NotImplementedError

    def handle(self, task: Task[ConfigT]) -> JobT | None:
        """The job that `create` will name, where we choose the name and it is complete."""
        return None

    async def find(self, task: Task[ConfigT], call: Call) -> JobT | None:
        """The job with `task.key`, for idempotency "lookup"; None when there is none. Raises
        JobConflict when that one does other work (`task.fingerprint.matches`)."""
        raise Unsupported(f"{type(self).__name__} cannot look jobs up; define find")

    async def adopts(self, task: Task[ConfigT], job: JobT, call: Call) -> bool:
        """Whether an attempt may take over `job`, which an earlier attempt started and which is
        alive or has succeeded. `task` is the work as the earlier attempt asked for it, with its
        `output_prefix`. Return False where the job's outputs lie where they cannot be read, say:
        then the job is cancelled and seen to stop before a new one is asked for."""
        return True

    def fingerprint(self, task: Task[ConfigT]) -> Mapping[str, object]:
        """What says whether two jobs are the same work, as JSON-like values: the statement, its
        parameters, the config that changes results. Leave out secrets, labels, timeouts, the
        output prefix and rendered container arguments."""
        return {
            "statement": task.statement,
            "inputs": task.inputs,
            "config": task.config.model_dump(mode="json"),
        }

    def links(self, job: JobT) -> Sequence[Link]:
        """Links to the job's pages at the vendor. They must follow from the job alone."""
        return ()

    async def logs(self, job: JobT, call: Call, token: str, lines: int) -> LogPage:
        """A page of the job's log: at most `lines` lines from where `token` says ("" at first)."""
        raise Unsupported(f"{self.task_type} has no logs")


class SyncAgent(AgentBase[SettingsT, ConfigT]):
    """An agent for work that ends within the call, a few seconds."""

    async def run(self, task: Task[ConfigT], call: Call) -> Mapping[str, object]:
        """Do the work; return the outputs by name, as Python values. `task.key` repeats when
        the call is repeated."""
        raise NotImplementedError
