"""A task as Flyte sends it, and what the caller adds to it for one attempt.

The two generations differ in how they name an attempt and in what they tell about it; both forms
are here, and nowhere else. Facts: pluginmachinery's webapi plugins for Flyte 1; executor/pkg/plugin
(task_exec_context.go, task_exec_metadata.go) for Flyte 2.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from flyteidl.admin import agent_pb2
from flyteidl.core import literals_pb2, tasks_pb2

from flyteagents._client.rendering import rendered
from flyteagents._types import Type
from flyteagents._wire.types import decode_variables

Generation = Literal[1, 2]
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_ORGANIZATION = "flyte"
"""Open-source Flyte 2 has this one; Flyte 1 has none."""


@dataclass(frozen=True)
class FlyteTask:
    """A task as its author made it: the template, and the values of its inputs. Both are
    messages of Flyte 1, which Flyte 2 reads as its own."""

    template: tasks_pb2.TaskTemplate
    inputs: literals_pb2.LiteralMap = field(default_factory=literals_pb2.LiteralMap)

    @property
    def type(self) -> str:
        task_type: str = self.template.type
        return task_type

    @property
    def declared(self) -> Mapping[str, Type]:
        """The outputs that it declares."""
        return decode_variables(self.template.interface.outputs)

    @property
    def timeout(self) -> float:
        """Seconds that one attempt may take; 0 for no limit."""
        seconds: float = self.template.metadata.timeout.ToTimedelta().total_seconds()
        return seconds

    @property
    def attempts(self) -> int:
        """How many its author allows."""
        # As FP/nodes/executor.go:830-849, but for what overrides and the cluster's settings change,
        # which is in no request.
        return int(self.template.metadata.retries.retries) + 1


@dataclass(frozen=True)
class Attempt:
    """One attempt of a task, as one Flyte generation names it.

    number: 0 for the first. base: what all output prefixes begin with. folder: the output prefix
    but for the attempt's number, instead of one made of `base` and names. secrets, configs: what
    Flyte 2 sends along, by name.
    """

    task: FlyteTask
    execution: str = field(default_factory=lambda: f"e{secrets.token_hex(6)}")
    number: int = 0
    generation: Generation = 1
    base: str = "s3://flyte"
    project: str = "tests"
    domain: str = "development"
    folder: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    configs: Mapping[str, str] = field(default_factory=dict)

    @property
    def output_prefix(self) -> str:
        """Where this attempt's outputs go; it ends with the attempt's number, which Flyte 2
        counts from 1."""
        counted = self.number if self.generation == 1 else self.number + 1
        if self.folder:
            return f"{self.folder.rstrip('/')}/{counted}"
        owner = f"{self.project}/{self.domain}/{self.execution}"
        if self.generation == 1:
            return f"{self.base}/{owner}/n0/data/{counted}"
        # The shard comes first in the bucket: stores spread their load by how keys begin.
        scheme, has_bucket, rest = self.base.rpartition("://")
        bucket, _, below = rest.partition("/") if has_bucket else (rest, "", "")
        parts = (bucket, self._shard(), below, _ORGANIZATION, owner, self._node, str(counted))
        return scheme + has_bucket + "/".join(filter(None, parts))

    @property
    def inputs_file(self) -> str:
        """Where the file with the inputs is, which all attempts have in common."""
        return f"{self._above}/inputs.pb"

    def next(self) -> Attempt:
        """The attempt that follows this one."""
        return replace(self, number=self.number + 1)

    def metadata(self) -> agent_pb2.TaskExecutionMetadata:
        """What the caller tells about itself; only what the Go clients really fill in."""
        message = agent_pb2.TaskExecutionMetadata(
            namespace=f"{self.project}-{self.domain}",
            k8s_service_account="default" if self.generation == 1 else "",
            labels=self._labels(),
            environment_variables=self._environment(),
        )
        of = message.task_execution_id
        of.task_id.CopyFrom(self.task.template.id)
        of.task_id.project, of.task_id.domain = self.project, self.domain
        of.retry_attempt = self.number
        # It repeats in sub-workflows (FP/nodes/node_exec_context.go:206-211); the prefix does not.
        of.node_execution_id.node_id = self._node

        execution = of.node_execution_id.execution_id
        execution.project, execution.domain = self.project, self.domain
        execution.name = self.execution
        if self.generation == 2:
            execution.org = _ORGANIZATION
        return message

    def create_request(self) -> agent_pb2.CreateTaskRequest:
        """The CreateTaskRequest, in Flyte 1's form."""
        return agent_pb2.CreateTaskRequest(
            inputs=self.task.inputs,
            template=self.template,
            output_prefix=self.output_prefix,
            task_execution_metadata=self.metadata(),
        )

    @property
    def template(self) -> tasks_pb2.TaskTemplate:
        """The task's template, with the places of this attempt in its container's arguments."""
        raw = f"{self.folder or self.base}/raw/{self.execution}"
        places = {
            "input": self.inputs_file,
            "inputprefix": self._above,
            "outputprefix": self.output_prefix,
            "rawoutputdataprefix": raw,
            "checkpointoutputprefix": f"{raw}/checkpoints",
            "prevcheckpointprefix": "",
            "namespace": f"{self.project}-{self.domain}",
            "runname": self.execution,
            "actionname": self._node,
        }
        return rendered(self.task.template, places)

    @property
    def _above(self) -> str:
        return self.output_prefix.rpartition("/")[0]

    @property
    def _node(self) -> str:
        return "n0" if self.generation == 1 else "a0"

    def _shard(self) -> str:
        """Two characters that follow from the action's name, the same for all its attempts."""
        name = f"{self.project}-{self.domain}/{self.execution}-{self._node}"
        number = zlib.crc32(name.encode()) % len(_DIGITS) ** 2
        return _DIGITS[number // len(_DIGITS)] + _DIGITS[number % len(_DIGITS)]

    def _labels(self) -> dict[str, str]:
        name = self.task.template.id.name.replace(".", "-").lower()
        if self.generation == 1:
            return {
                "execution-id": self.execution,
                "node-id": self._node,
                "task-name": name,
                "interruptible": "false",
            }
        return {
            "organization": _ORGANIZATION,
            "project": self.project,
            "domain": self.domain,
            "run": self.execution,
            "action": self._node,
            "attempt": str(self.number + 1),
            "task-name": name,
        }

    def _environment(self) -> dict[str, str]:
        if self.generation == 1:
            return {}  # what the execution's own configuration says, which nobody has set here
        run = f"{self.base}/{_ORGANIZATION}/{self.project}/{self.domain}/{self.execution}"
        return {
            "ACTION_NAME": self._node,
            "RUN_NAME": self.execution,
            "_U_RUN_BASE": run,
            "_U_ORG_NAME": _ORGANIZATION,
        }
