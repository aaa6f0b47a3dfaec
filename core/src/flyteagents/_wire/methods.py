"""The gRPC methods of both generations, on raw bytes."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from flyteidl.admin import agent_pb2 as flyte1
from flyteidl2.connector import connector_pb2 as flyte2
from google.protobuf.message import Message

from flyteagents._kernel.host import AgentHost
from flyteagents._kernel.requests import CreateRequest, Deadline, Refused
from flyteagents._kernel.service import Service
from flyteagents._telemetry.redact import redact
from flyteagents._telemetry.tracing import Rpc
from flyteagents._wire import messages
from flyteagents._wire.messages import FLYTE1, FLYTE2, parse
from flyteagents._wire.structs import to_struct

log = logging.getLogger("flyteagents")
Context = grpc.aio.ServicerContext[bytes, bytes]
Body = Callable[[bytes, Deadline, Rpc], Awaitable[Message]]
LINES = 1000
"""Lines of a log in one message of its stream."""


class Methods:
    """What is served under which name. Handlers take and give bytes, so that bytes that do not
    parse are answered by us."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.telemetry = service.runtime.telemetry
        self._hosts = service.runtime.hosts
        self.label = service.runtime.label
        self.begun = 0

    def handlers(self) -> dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]]:
        """Service name to method name to handler."""
        one, two = "flyteidl.service", "flyteidl2.connector"
        return {
            f"{one}.AsyncAgentService": self._asynchronous(f"{one}.AsyncAgentService", FLYTE1),
            f"{two}.AsyncConnectorService": self._asynchronous(
                f"{two}.AsyncConnectorService", FLYTE2
            ),
            f"{one}.SyncAgentService": {
                "ExecuteTaskSync": grpc.stream_stream_rpc_method_handler(self._execute)
            },
            f"{one}.AgentMetadataService": {
                "GetAgent": self._plain(self._get_agent),
                "ListAgents": self._plain(self._list_agents),
            },
            f"{two}.ConnectorMetadataService": {
                "GetConnector": self._plain(self._get_connector),
                "ListConnectors": self._plain(self._list_connectors),
            },
        }

    def _asynchronous(
        self, service: str, generation: int
    ) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        pb: Any = flyte1 if generation == FLYTE1 else flyte2

        async def create(raw: bytes, deadline: Deadline, rpc: Rpc) -> Message:
            request = messages.create_request(raw, generation)
            self._count_input(request, len(raw))
            meta = await self._service.create(request, deadline, rpc)
            return pb.CreateTaskResponse(resource_meta=meta)

        async def get(raw: bytes, deadline: Deadline, rpc: Rpc) -> Message:
            request = messages.job_request(parse(flyte1.GetTaskRequest, raw), raw, generation)
            answer = await self._service.get(request, deadline, rpc)
            resource = messages.resource(answer, generation)
            return pb.GetTaskResponse(resource=resource)

        async def delete(raw: bytes, deadline: Deadline, rpc: Rpc) -> Message:
            request = messages.job_request(parse(flyte1.DeleteTaskRequest, raw), raw, generation)
            await self._service.delete(request, deadline, rpc)
            return pb.DeleteTaskResponse()

        async def metrics(raw: bytes, deadline: Deadline, rpc: Rpc) -> Message:
            message = parse(flyte1.GetTaskMetricsRequest, raw)
            request = messages.job_request(message, raw, generation)
            found = await self._service.metrics(request, messages.metrics_query(message), rpc)
            response = flyte1.GetTaskMetricsResponse()
            for metric in found:
                response.results.add(metric=metric.name, data=to_struct(metric.data))
            return response

        async def logs(raw: bytes, context: Context) -> AsyncIterator[bytes]:
            async with Serving(self, service, "GetTaskLogs", "logs", context) as (_, rpc):
                message = parse(flyte1.GetTaskLogsRequest, raw)
                request = messages.job_request(message, raw, generation)
                wanted = int(message.lines) or LINES
                page = await self._service.logs(request, message.token, wanted, rpc)
                for start in range(0, len(page.lines), LINES):
                    some = page.lines[start : start + LINES]
                    yield messages.log_body(some, generation).SerializeToString()
                if page.next:
                    yield messages.log_header(page.next, generation).SerializeToString()

        unary = {
            "CreateTask": ("create", create),
            "GetTask": ("get", get),
            "DeleteTask": ("delete", delete),
            "GetTaskMetrics": ("metrics", metrics),
        }
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: self._unary(service, name, operation, body)
            for name, (operation, body) in unary.items()
        }
        handlers["GetTaskLogs"] = grpc.unary_stream_rpc_method_handler(logs)
        return handlers

    def _unary(
        self, service: str, method: str, operation: str, body: Body
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def handle(raw: bytes, context: Context) -> bytes:
            async with Serving(self, service, method, operation, context) as (deadline, rpc):
                return (await body(raw, deadline, rpc)).SerializeToString()
            raise AssertionError  # the block above returns or raises

        return grpc.unary_unary_rpc_method_handler(handle)

    async def _execute(
        self, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        """Propeller sends the header, then the inputs, and reads one answer."""
        service = "flyteidl.service.SyncAgentService"
        async with Serving(self, service, "ExecuteTaskSync", "do", context) as (deadline, rpc):
            header, inputs = None, flyte1.ExecuteTaskSyncRequest().inputs
            async for raw in requests:
                message = parse(flyte1.ExecuteTaskSyncRequest, raw)
                if message.HasField("header"):
                    header = message.header
                elif message.HasField("inputs"):
                    inputs = message.inputs
                    break
            if header is None:
                raise Refused("INVALID_ARGUMENT", "the stream ended before its header")
            request = messages.sync_request(header, inputs)
            self._count_input(request, inputs.ByteSize())
            answer = await self._service.run(request, deadline, rpc)
            resource = messages.resource(answer, FLYTE1)
            yield flyte1.ExecuteTaskSyncResponse(
                header=flyte1.ExecuteTaskSyncResponseHeader(resource=resource)
            ).SerializeToString()

    def _count_input(self, request: CreateRequest, size: int) -> None:
        self.telemetry.metrics.input_bytes(self.label(request.task_type), size)

    def _plain(self, body: Callable[[bytes], Message]) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def handle(raw: bytes, context: Context) -> bytes:
            try:
                return body(raw).SerializeToString()
            except Refused as refused:
                await context.abort(grpc.StatusCode[refused.code], refused.message)
                raise

        return grpc.unary_unary_rpc_method_handler(handle)

    def _list_agents(self, raw: bytes) -> Message:
        parse(flyte1.ListAgentsRequest, raw)
        return flyte1.ListAgentsResponse(agents=[_agent(host) for host in self._hosts.values()])

    def _get_agent(self, raw: bytes) -> Message:
        host = self._named(parse(flyte1.GetAgentRequest, raw).name)
        return flyte1.GetAgentResponse(agent=_agent(host))

    def _list_connectors(self, raw: bytes) -> Message:
        parse(flyte2.ListConnectorsRequest, raw)
        return flyte2.ListConnectorsResponse(
            connectors=[_connector(host) for host in self._hosts.values()]
        )

    def _get_connector(self, raw: bytes) -> Message:
        host = self._named(parse(flyte2.GetConnectorRequest, raw).name)
        return flyte2.GetConnectorResponse(connector=_connector(host))

    def _named(self, name: str) -> AgentHost:
        for host in self._hosts.values():
            if host.name == name:
                return host
        names = ", ".join(host.name for host in self._hosts.values()) or "none"
        raise Refused("NOT_FOUND", f"no agent is named {name[:80]!r}; there are: {names}")


class Serving:
    """One RPC: its deadline, its span, its metrics, and the boundary that no error passes."""

    def __init__(
        self, methods: Methods, service: str, method: str, operation: str, context: Context
    ) -> None:
        methods.begun += 1
        self._methods = methods
        self._operation = operation
        self._context = context
        self._started = time.perf_counter()
        self._rpc = Rpc(
            methods.telemetry.tracing, service, method, context.invocation_metadata() or ()
        )

    async def __aenter__(self) -> tuple[Deadline, Rpc]:
        return Deadline(self._context.time_remaining()), self._rpc

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        code, text = "OK", ""
        if isinstance(error, Refused):
            code, text = error.code, error.message
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            code = "CANCELLED"
        elif error is not None:
            error_id = secrets.token_hex(4)
            code, text = "INTERNAL", f"internal error; id {error_id} finds the server's log line"
            log.error("%s failed", self._operation, exc_info=error, extra={"error_id": error_id})
        methods = self._methods
        methods.telemetry.metrics.request(
            methods.label(self._rpc.task_type), self._operation,
            time.perf_counter() - self._started, code,
        )  # fmt: skip
        self._rpc.end(code, text)
        if text:
            await self._context.abort(grpc.StatusCode[code], redact(text))


def _agent(host: AgentHost) -> flyte1.Agent:
    # `supported_task_types` is what callers before 1.13 read; without categories newer ones
    # would not see the agent. The version is 0 in both, since callers keep only one.
    return flyte1.Agent(
        name=host.name,
        supported_task_types=[host.task_type],
        is_sync=host.is_sync,
        supported_task_categories=[flyte1.TaskCategory(name=host.task_type, version=0)],
    )


def _connector(host: AgentHost) -> flyte2.Connector:
    categories = [flyte2.TaskCategory(name=host.task_type, version=0)]
    return flyte2.Connector(name=host.name, supported_task_categories=categories)
