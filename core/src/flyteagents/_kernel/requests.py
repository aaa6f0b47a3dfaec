"""What Flyte asks, the same for both generations and free of protobuf."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flyteagents._task import Identity, Task

if TYPE_CHECKING:
    from flyteagents._kernel.open_job import OpenJob
    from flyteagents._kernel.opening import Known


@dataclass(frozen=True)
class Connection:
    """What Flyte 2 sends along: secrets by name, and configs."""

    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    configs: Mapping[str, str] = field(default_factory=dict)


NO_CONNECTION = Connection()


@dataclass(eq=False, slots=True)
class CreateRequest:
    """CreateTask or ExecuteTaskSync. `read` decodes the task, a new one each time, whose config is
    a plain mapping yet and which has no key; it raises InvalidTask when the task makes no sense.
    `raw` is what came over the wire."""

    task_type: str
    generation: int
    output_prefix: str
    identity: Identity
    read: Callable[[], Task[Any]]
    connection: Connection = NO_CONNECTION
    raw: bytes = field(default=b"", repr=False)


@dataclass(eq=False, slots=True)
class JobRequest:
    """GetTask, DeleteTask or GetTaskLogs for the job in `meta`.

    known: what was read out of it. name: that of the job's memory. opened: the job. All are kept
    for the next time, since a poll is the same bytes again and again."""

    task_type: str
    meta: bytes
    output_prefix: str = ""
    connection: Connection = NO_CONNECTION
    known: Known | None = field(default=None, init=False, repr=False)
    name: str = field(default="", init=False, repr=False)
    opened: OpenJob | None = field(default=None, init=False, repr=False)

    def texts(self) -> int:
        """Bytes of what callers may make long."""
        connection = self.connection
        sent = (*connection.secrets.values(), *connection.configs.values())
        return len(self.meta) + len(self.output_prefix) + sum(map(len, sent))
