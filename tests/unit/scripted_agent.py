"""A gRPC server that answers what a test says, to see what the fake FlytePropeller makes of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from flyteidl.admin import agent_pb2

from flyteagents.testing import free_port

Answer = int | grpc.StatusCode


def always(answer: Answer) -> Callable[[int], Answer]:
    return lambda _: answer


FINE, DONE = always(0), always(3)


def in_turn(*answers: Answer) -> Callable[[int], Answer]:
    """These answers, and then the last one again and again."""
    return lambda number: answers[min(number, len(answers) - 1)]


@dataclass
class Agent:
    """create, get, delete: the n-th call (from 0) to its gRPC code, or phase. seconds: how long
    a poll takes. sync: the phase that ExecuteTaskSync answers, None for an asynchronous agent."""

    create: Callable[[int], Answer] = FINE
    get: Callable[[int], Answer] = DONE
    delete: Callable[[int], Answer] = FINE
    seconds: float = 0.0
    sync: int | None = None
    calls: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, Any]] = field(default_factory=list)
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    remaining: list[float | None] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    running: int = 0
    overlapping: int = 0

    async def answer(self, method: str, raw: bytes, context: Any) -> bytes:
        number = self.calls[method]
        self.calls[method] += 1
        kinds = {"CreateTask": self.create, "GetTask": self.get, "DeleteTask": self.delete}
        answer = kinds[method](number)
        request = getattr(agent_pb2, f"{method}Request").FromString(raw)
        self.requests.append((method, request))
        self.sent.append((method, raw))
        self.remaining.append(context.time_remaining())
        if method == "GetTask":
            self.running += 1
            self.overlapping = max(self.overlapping, self.running)
            await asyncio.sleep(self.seconds)
            self.running -= 1
        if isinstance(answer, grpc.StatusCode):
            await context.abort(answer, "as the test says")
        if method == "CreateTask":
            meta = f"meta-{number}".encode()
            return bytes(agent_pb2.CreateTaskResponse(resource_meta=meta).SerializeToString())
        if method == "GetTask":
            resource = agent_pb2.Resource(phase=answer, message="why")
            return bytes(agent_pb2.GetTaskResponse(resource=resource).SerializeToString())
        return b""

    async def execute(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        parts = [agent_pb2.ExecuteTaskSyncRequest.FromString(raw) async for raw in requests]
        self.requests += [("ExecuteTaskSync", part) for part in parts]
        resource = agent_pb2.Resource(phase=self.sync)
        header = agent_pb2.ExecuteTaskSyncResponseHeader(resource=resource)
        for _ in range(2):  # a caller reads one
            yield agent_pb2.ExecuteTaskSyncResponse(header=header).SerializeToString()

    async def listed(self, raw: bytes, context: Any) -> bytes:
        self.peers.append(context.peer())
        agent = agent_pb2.Agent(name="a", supported_task_types=["a"], is_sync=self.sync is not None)
        return bytes(agent_pb2.ListAgentsResponse(agents=[agent]).SerializeToString())

    def handlers(self) -> Sequence[Any]:
        def unary(method: str) -> Any:
            async def handle(raw: bytes, context: Any) -> bytes:
                return await self.answer(method, raw, context)

            return grpc.unary_unary_rpc_method_handler(handle)

        calls = {method: unary(method) for method in ("CreateTask", "GetTask", "DeleteTask")}
        sync: Any = {"ExecuteTaskSync": grpc.stream_stream_rpc_method_handler(self.execute)}
        lists: Any = grpc.unary_unary_rpc_method_handler(self.listed)
        services: dict[str, dict[str, Any]] = {
            "flyteidl.service.AsyncAgentService": calls,
            "flyteidl2.connector.AsyncConnectorService": calls,
            "flyteidl.service.SyncAgentService": sync,
            "flyteidl.service.AgentMetadataService": {"ListAgents": lists},
            "flyteidl2.connector.ConnectorMetadataService": {"ListConnectors": lists},
        }
        return [grpc.method_handlers_generic_handler(name, of) for name, of in services.items()]


@asynccontextmanager
async def serving(agent: Agent) -> AsyncIterator[str]:
    """Serve the agent; the endpoint."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(tuple(agent.handlers()))
    endpoint = f"127.0.0.1:{free_port()}"
    server.add_insecure_port(endpoint)
    await server.start()
    try:
        yield endpoint
    finally:
        await server.stop(None)
