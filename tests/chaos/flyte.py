"""Flyte as the attacks need it: the calls of both generations, and a task's whole life."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from flyteidl.admin import agent_pb2 as flyte1
from flyteidl.core.execution_pb2 import TaskExecution
from flyteidl.service import agent_pb2_grpc
from flyteidl2.connector import connector_pb2 as flyte2
from flyteidl2.connector import service_pb2_grpc

INITIALIZING, RUNNING = TaskExecution.INITIALIZING, TaskExecution.RUNNING
SUCCEEDED, FAILED = TaskExecution.SUCCEEDED, TaskExecution.FAILED
RETRYABLE_FAILED = TaskExecution.RETRYABLE_FAILED
FORGIVEN = 5
"""GetTask errors that FlytePropeller forgives in a task's whole life."""


@dataclass(frozen=True)
class Work:
    """One task of a workflow. `name` is its node's; prefixes follow from it."""

    task_type: str
    name: str
    script: str = "sleep 0.3"
    generation: int = 1
    retries: int = 3
    timeout: float = 0.0
    secrets: Mapping[str, str] = field(default_factory=dict)

    def prefix(self, attempt: int) -> str:
        return f"s3://bucket/{self.name}/data/{attempt + self.generation - 1}"

    def request(self, attempt: int = 0) -> Any:
        """The CreateTask request of an attempt."""
        request = flyte1.CreateTaskRequest(output_prefix=self.prefix(attempt))
        template = request.template
        template.type = self.task_type
        template.custom.update({"script": self.script})
        template.metadata.retries.retries = self.retries
        if self.timeout:
            template.metadata.timeout.FromMilliseconds(int(self.timeout * 1000))
        task = request.task_execution_metadata.task_execution_id
        task.retry_attempt = attempt
        task.node_execution_id.node_id = "n0"
        task.node_execution_id.execution_id.project = "chaos"
        task.node_execution_id.execution_id.domain = "development"
        task.node_execution_id.execution_id.name = self.name
        if self.generation == 1:
            return request
        two = flyte2.CreateTaskRequest.FromString(request.SerializeToString())
        two.connection.secrets.update(self.secrets)
        return two


class Calls:
    """The calls of one generation over one channel."""

    def __init__(self, channel: grpc.aio.Channel, generation: int = 1, timeout: float = 5.0):
        self.generation, self.timeout = generation, timeout
        self._pb: Any = flyte1 if generation == 1 else flyte2
        self._stub: Any = (
            agent_pb2_grpc.AsyncAgentServiceStub(channel)
            if generation == 1
            else service_pb2_grpc.AsyncConnectorServiceStub(channel)
        )

    async def create(self, work: Work, attempt: int = 0) -> bytes:
        reply = await self._stub.CreateTask(work.request(attempt), timeout=self.timeout)
        return bytes(reply.resource_meta)

    async def get(self, work: Work, meta: bytes, attempt: int = 0) -> Any:
        pb = self._pb
        request = pb.GetTaskRequest(
            task_category=pb.TaskCategory(name=work.task_type),
            resource_meta=meta,
            output_prefix=work.prefix(attempt),
        )
        if work.secrets:
            request.connection.secrets.update(work.secrets)
        return (await self._stub.GetTask(request, timeout=self.timeout)).resource

    async def delete(self, work: Work, meta: bytes) -> None:
        pb = self._pb
        request = pb.DeleteTaskRequest(
            task_category=pb.TaskCategory(name=work.task_type), resource_meta=meta
        )
        if work.secrets:
            request.connection.secrets.update(work.secrets)
        await self._stub.DeleteTask(request, timeout=self.timeout)


async def code(call: Awaitable[object]) -> grpc.StatusCode:
    """How a call ends."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def ended(calls: Calls, work: Work, meta: bytes, attempt: int = 0) -> Any:
    """The first answer that ends the attempt."""
    while True:
        answer = await calls.get(work, meta, attempt)
        if answer.phase in (SUCCEEDED, FAILED, RETRYABLE_FAILED):
            return answer
        await asyncio.sleep(0.1)


@dataclass
class Life:
    """How a task went. `metas` has the last `resource_meta` of each attempt."""

    phase: int = 0
    message: str = ""
    attempts: int = 0
    create_errors: int = 0
    get_errors: int = 0
    metas: dict[int, bytes] = field(default_factory=dict)


async def live(
    work: Work,
    calls: Calls,
    *,
    poll: float = 0.1,
    repeats: Callable[[], bool] = lambda: False,
) -> Life:
    """Run a task as FlytePropeller does: a CreateTask that fails burns the attempt, and the next
    one follows 0.1 s later. `repeats` says whether its state was lost instead, so that the same
    attempt is created again."""
    life = Life()
    attempt = 0
    while attempt <= work.retries:
        life.attempts = attempt + 1
        try:
            life.metas[attempt] = await calls.create(work, attempt)
        except grpc.aio.AioRpcError as error:
            life.create_errors += 1
            life.message = f"{error.code()}: {error.details()}"
            await asyncio.sleep(0.1)
            attempt += 0 if repeats() else 1
            continue
        if repeats():
            await asyncio.sleep(0.05)
            continue
        if await _polled(work, calls, life, attempt, poll):
            return life
        await _deleted(work, calls, life.metas[attempt])
        attempt += 1
    life.phase = life.phase or FAILED
    return life


async def _polled(work: Work, calls: Calls, life: Life, attempt: int, poll: float) -> bool:
    """Poll to the attempt's end; whether it is the task's."""
    while life.get_errors <= FORGIVEN:
        try:
            resource = await calls.get(work, life.metas[attempt], attempt)
        except grpc.aio.AioRpcError as error:
            life.get_errors += 1
            life.message = f"{error.code()}: {error.details()}"
        else:
            life.phase, life.message = resource.phase, resource.message
            if resource.phase in (SUCCEEDED, FAILED):
                return True
            if resource.phase == RETRYABLE_FAILED:
                return attempt >= work.retries
        await asyncio.sleep(poll)
    raise AssertionError(f"{work.name}: polls failed for good: {life.message}")


async def _deleted(work: Work, calls: Calls, meta: bytes) -> None:
    for _ in range(11):
        try:
            return await calls.delete(work, meta)
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.3)
    raise AssertionError(f"{work.name}: eleven DeleteTasks failed, the workflow is aborted")
