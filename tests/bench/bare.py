"""The least that a Python agent service can do: a grpc.aio handler that parses and replies."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
from flyteidl.admin import agent_pb2
from flyteidl.core import execution_pb2
from flyteidl.service import agent_pb2_grpc


class Bare(agent_pb2_grpc.AsyncAgentServiceServicer):  # type: ignore[misc] # flyteidl is untyped
    async def CreateTask(self, request: Any, context: Any) -> Any:  # noqa: N802 # gRPC's name
        return agent_pb2.CreateTaskResponse(resource_meta=b'{"id": "0123456789abcdef"}')

    async def GetTask(self, request: Any, context: Any) -> Any:  # noqa: N802 # gRPC's name
        resource = agent_pb2.Resource(phase=execution_pb2.TaskExecution.RUNNING)
        return agent_pb2.GetTaskResponse(resource=resource)


async def serve(port: int) -> None:
    server = grpc.aio.server()
    agent_pb2_grpc.add_AsyncAgentServiceServicer_to_server(Bare(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
