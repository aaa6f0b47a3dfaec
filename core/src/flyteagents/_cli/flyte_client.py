"""The calls that FlytePropeller and the Flyte 2 executor make, as they make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from flyteidl.admin import agent_pb2 as flyte1
from flyteidl.core import literals_pb2
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.service.agent_pb2_grpc import (
    AgentMetadataServiceStub,
    AsyncAgentServiceStub,
    SyncAgentServiceStub,
)
from flyteidl2.connector import connector_pb2 as flyte2
from flyteidl2.connector.service_pb2_grpc import (
    AsyncConnectorServiceStub,
    ConnectorMetadataServiceStub,
)

from flyteagents._kernel.tasks import whole
from flyteagents._status import Link, Phase
from flyteagents._wire.messages import FLYTE1, FLYTE2
from flyteagents._wire.structs import from_struct

DEADLINE = 10.0
"""Seconds for a call: the default of both generations' connector-service section."""

# QUEUED and WAITING_FOR_RESOURCES; and the older field `state`, read where there is no phase.
_WAITING = {1: Phase.INITIALIZING, 7: Phase.INITIALIZING}
_STATES = {
    flyte1.PERMANENT_FAILURE: Phase.FAILED,
    flyte1.PENDING: Phase.INITIALIZING,
    flyte1.RUNNING: Phase.RUNNING,
    flyte1.SUCCEEDED: Phase.SUCCEEDED,
}


@dataclass(frozen=True)
class Who:
    """In whose name the task runs."""

    project: str
    domain: str
    execution: str
    node: str = "n0"


@dataclass(frozen=True)
class View:
    """What a caller sees of a task. `outputs` is a serialized LiteralMap, None when the job wrote
    them to the output prefix itself."""

    phase: Phase
    message: str = ""
    outputs: bytes | None = None
    links: tuple[Link, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)


class FlyteClient:
    """One generation's calls for one task."""

    def __init__(
        self,
        channel: grpc.Channel,
        generation: int,
        template: TaskTemplate,
        inputs: bytes,
        who: Who,
    ) -> None:
        self.generation = generation
        self.first = 1 if generation == FLYTE2 else 0
        """The number of the first attempt's output prefix."""
        self._template, self._inputs, self._who = template, inputs, who
        self._category = flyte1.TaskCategory(name=template.type, version=template.task_type_version)
        self._sync: Any = SyncAgentServiceStub(channel)
        if generation == FLYTE2:
            self._tasks: Any = AsyncConnectorServiceStub(channel)
            self._metadata: Any = ConnectorMetadataServiceStub(channel)
        else:
            self._tasks = AsyncAgentServiceStub(channel)
            self._metadata = AgentMetadataServiceStub(channel)

    def served(self) -> dict[str, bool]:
        """Task type to whether it is synchronous, of all agents there. Raises RpcError."""
        if self.generation == FLYTE2:
            listed = self._metadata.ListConnectors(flyte2.ListConnectorsRequest(), timeout=DEADLINE)
            return {c.name: False for a in listed.connectors for c in a.supported_task_categories}
        listed = self._metadata.ListAgents(flyte1.ListAgentsRequest(), timeout=DEADLINE)
        return {c.name: a.is_sync for a in listed.agents for c in a.supported_task_categories}

    def create(self, prefix: str, attempt: int, attempts: int) -> grpc.Future[Any]:
        """CreateTask under way; its result has `resource_meta`."""
        request = flyte1.CreateTaskRequest(
            inputs=literals_pb2.LiteralMap.FromString(self._inputs),
            template=self._template,
            output_prefix=prefix,
            task_execution_metadata=self._execution(attempt, attempts),
        )
        future: grpc.Future[Any] = self._tasks.CreateTask.future(
            self._as_ours(request, flyte2.CreateTaskRequest), timeout=DEADLINE
        )
        return future

    def get(self, meta: bytes, prefix: str) -> View:
        """GetTask. Raises RpcError."""
        request = flyte1.GetTaskRequest(
            resource_meta=meta, task_category=self._category, output_prefix=prefix
        )
        if self.generation == FLYTE1:
            request.task_type = self._template.type
        reply = self._tasks.GetTask(self._as_ours(request, flyte2.GetTaskRequest), timeout=DEADLINE)
        return _view(reply.resource)

    def delete(self, meta: bytes) -> None:
        """DeleteTask. Raises RpcError."""
        request = flyte1.DeleteTaskRequest(resource_meta=meta, task_category=self._category)
        if self.generation == FLYTE1:
            request.task_type = self._template.type
        self._tasks.DeleteTask(self._as_ours(request, flyte2.DeleteTaskRequest), timeout=DEADLINE)

    def execute(self, prefix: str, attempt: int, attempts: int) -> View:
        """ExecuteTaskSync, which only Flyte 1 has. Raises RpcError."""
        header = flyte1.CreateRequestHeader(
            template=self._template,
            output_prefix=prefix,
            task_execution_metadata=self._execution(attempt, attempts),
        )
        requests = (
            flyte1.ExecuteTaskSyncRequest(header=header),
            flyte1.ExecuteTaskSyncRequest(inputs=literals_pb2.LiteralMap.FromString(self._inputs)),
        )
        reply = next(self._sync.ExecuteTaskSync(iter(requests), timeout=30.0))
        return _view(reply.header.resource)

    def _execution(self, attempt: int, attempts: int) -> flyte1.TaskExecutionMetadata:
        who = self._who
        metadata = flyte1.TaskExecutionMetadata(
            namespace=f"{who.project}-{who.domain}",
            k8s_service_account="default",
            max_attempts=attempts,
        )
        execution = metadata.task_execution_id
        execution.task_id.CopyFrom(self._template.id)
        execution.task_id.project, execution.task_id.domain = who.project, who.domain
        execution.retry_attempt = attempt
        execution.node_execution_id.node_id = who.node
        name = execution.node_execution_id.execution_id
        name.project, name.domain, name.name = who.project, who.domain, who.execution
        return metadata

    def _as_ours(self, request: Any, message: Any) -> Any:
        # Both generations' messages are the same on the wire, where they have the same fields.
        return request if self.generation == FLYTE1 else message.FromString(
            request.SerializeToString()
        )  # fmt: skip


def _phase(resource: Any) -> Phase:
    """As FlytePropeller reads it, also from servers that say what ours never does."""
    if resource.phase:
        return _WAITING.get(resource.phase) or Phase(resource.phase)
    return _STATES.get(getattr(resource, "state", 0), Phase.RETRYABLE_FAILED)


def _view(resource: Any) -> View:
    info = resource.custom_info
    return View(
        phase=_phase(resource),
        message=resource.message,
        outputs=resource.outputs.SerializeToString() if resource.HasField("outputs") else None,
        links=tuple(Link(link.name, link.uri) for link in resource.log_links),
        # A message's map has no order, and its numbers are all floats.
        info={name: whole(value) for name, value in sorted(from_struct(info).items())},
    )
