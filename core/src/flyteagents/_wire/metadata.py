"""The methods that say which agents there are, in both generations. They are about no task, so
they have no span and no limits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import grpc
from flyteidl.admin import agent_pb2 as flyte1
from flyteidl2.connector import connector_pb2 as flyte2
from google.protobuf.message import Message

from flyteagents._kernel.answers import Refused
from flyteagents._kernel.served import ServedAgent
from flyteagents._wire.messages import parse

T = TypeVar("T")
Handlers = dict[str, dict[str, "grpc.RpcMethodHandler[bytes, bytes]"]]
"""Service name to method name to handler."""


def metadata_handlers(served: Collection[ServedAgent]) -> Handlers:
    # Made once, at start: every replica of Propeller asks each 10 s, and after one failed answer
    # all task types of the endpoint are gone until the next (webapi/agent/client.go:113-129).
    agents = {each.name: _agent(each) for each in served}
    connectors = {each.name: _connector(each) for each in served}
    one, two = flyte1, flyte2
    return {
        "flyteidl.service.AgentMetadataService": {
            "GetAgent": _method(
                one.GetAgentRequest,
                lambda asked: one.GetAgentResponse(agent=_named(agents, asked.name)),
            ),
            "ListAgents": _method(
                one.ListAgentsRequest, lambda _: one.ListAgentsResponse(agents=agents.values())
            ),
        },
        "flyteidl2.connector.ConnectorMetadataService": {
            "GetConnector": _method(
                two.GetConnectorRequest,
                lambda asked: two.GetConnectorResponse(connector=_named(connectors, asked.name)),
            ),
            "ListConnectors": _method(
                two.ListConnectorsRequest,
                lambda _: two.ListConnectorsResponse(connectors=connectors.values()),
            ),
        },
    }


def _method(
    request: type[Message], answer: Callable[[Any], Message]
) -> grpc.RpcMethodHandler[bytes, bytes]:
    async def handle(raw: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            return answer(parse(request, raw)).SerializeToString()
        except Refused as refused:
            await context.abort(grpc.StatusCode[refused.code], refused.message)
            raise

    return grpc.unary_unary_rpc_method_handler(handle)


def _named(agents: Mapping[str, T], name: str) -> T:
    if name not in agents:
        there = ", ".join(agents) or "none"
        raise Refused("NOT_FOUND", f"no agent is named {name[:80]!r}; there are: {there}")
    return agents[name]


def _agent(served: ServedAgent) -> flyte1.Agent:
    # `supported_task_types` is what callers before 1.13 read; without categories newer ones
    # would not see the agent. The version is 0 in both, since callers keep only one.
    types = served.offered.task_types
    return flyte1.Agent(
        name=served.name,
        supported_task_types=types,
        is_sync=served.is_sync,
        supported_task_categories=[flyte1.TaskCategory(name=each, version=0) for each in types],
    )


def _connector(served: ServedAgent) -> flyte2.Connector:
    # Nothing says that one is sync: Flyte 2 has no ExecuteTaskSync and asks all by CreateTask.
    categories = [flyte2.TaskCategory(name=each, version=0) for each in served.offered.task_types]
    return flyte2.Connector(name=served.name, supported_task_categories=categories)
