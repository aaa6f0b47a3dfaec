"""The calls that Flyte makes, of both generations, and a record of each.

It speaks gRPC on raw bytes: the two generations' messages are the same on the wire but for the
connection, so one set of them serves both. Nothing here raises for what a server answers; how a
control plane takes it is in `execution`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

import grpc
from flyteidl.admin import agent_pb2 as flyte1
from flyteidl2.connector import connector_pb2 as flyte2

from flyteagents._client.attempt import Attempt, Generation
from flyteagents._client.rpc import Rpc
from flyteagents._kernel.answers import MAY_RUN_ON

_OPTIONS = (
    # The default waits for up to two minutes before it connects again.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    # Else channels to the same address share a connection, and ListAgents is to have its own.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)
# For a target with several addresses. With one of them it would only be slow to connect again.
_BALANCED = (
    *_OPTIONS,
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
)
_SERVICES = {
    1: "flyteidl.service.AsyncAgentService",
    2: "flyteidl2.connector.AsyncConnectorService",
}
_LISTS = {
    1: "/flyteidl.service.AgentMetadataService/ListAgents",
    2: "/flyteidl2.connector.ConnectorMetadataService/ListConnectors",
}
_SYNC = "/flyteidl.service.SyncAgentService/ExecuteTaskSync"
_Talk = Callable[[grpc.aio.Channel, float | None], Awaitable[bytes]]


class Caller:
    """Makes calls to one or more replicas in turn, as a round-robin client does: one that does
    not answer is left out while another does. A context manager.

    endpoints: one for each replica; or a gRPC target with several of them, such as
        `ipv4:10.0.0.1:8000,10.0.0.2:8000`, which gRPC itself balances.
    deadline: seconds for each call: 10 is the default of Flyte's sections `connector-service`,
    3 that of Flyte 1's `agent-service`; None is what endpoints under `connectors:` get.
    deadlines: by method, over `deadline`. tls: for servers with a certificate.
    history: every call made.
    """

    def __init__(
        self,
        *endpoints: str,
        generation: Generation = 1,
        deadline: float | None = 10.0,
        deadlines: Mapping[str, float | None] | None = None,
        wait_for_ready: bool = False,
        tls: grpc.ChannelCredentials | None = None,
    ) -> None:
        self.endpoints = endpoints
        self.generation: Generation = generation
        self.history: list[Rpc] = []
        self._deadline, self._deadlines = deadline, deadlines or {}
        self._wait_for_ready = wait_for_ready
        self._tls = tls
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._turn = itertools.count()

    async def __aenter__(self) -> Caller:
        self._channels = {endpoint: self._channel(endpoint) for endpoint in self.endpoints}
        return self

    async def __aexit__(self, *raised: object) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def connected(self, endpoint: str) -> None:
        """Wait until a server that was away is reached again. For a second after a refusal gRPC
        asks it no more, and fails all calls."""
        await self._channels[endpoint].channel_ready()

    async def create(
        self, attempt: Attempt, *, endpoint: str = "", deadline: float | None = None
    ) -> Rpc:
        """CreateTask."""
        message = attempt.create_request()
        if self.generation == 2:
            message = _with_connection(flyte2.CreateTaskRequest, message, attempt)
        return await self._unary("CreateTask", message, attempt, endpoint, deadline)

    async def get(
        self, attempt: Attempt, meta: bytes, *, endpoint: str = "", deadline: float | None = None
    ) -> Rpc:
        """GetTask."""
        message = flyte1.GetTaskRequest(resource_meta=meta, output_prefix=attempt.output_prefix)
        self._name_type(message, attempt)
        if self.generation == 2:
            message = _with_connection(flyte2.GetTaskRequest, message, attempt)
        return await self._unary("GetTask", message, attempt, endpoint, deadline)

    async def delete(
        self, attempt: Attempt, meta: bytes, *, endpoint: str = "", deadline: float | None = None
    ) -> Rpc:
        """DeleteTask."""
        # No output prefix: Flyte sends none here.
        message = flyte1.DeleteTaskRequest(resource_meta=meta)
        self._name_type(message, attempt)
        if self.generation == 2:
            message = _with_connection(flyte2.DeleteTaskRequest, message, attempt)
        return await self._unary("DeleteTask", message, attempt, endpoint, deadline)

    async def run_sync(
        self, attempt: Attempt, *, endpoint: str = "", deadline: float | None = None
    ) -> Rpc:
        """ExecuteTaskSync: sends the header and the inputs, closes its half of the stream, and
        reads one answer, as FlytePropeller does."""
        header = flyte1.CreateRequestHeader(
            template=attempt.template,
            output_prefix=attempt.output_prefix,
            task_execution_metadata=attempt.metadata(),
        )
        parts = (
            flyte1.ExecuteTaskSyncRequest(header=header),
            flyte1.ExecuteTaskSyncRequest(inputs=attempt.task.inputs),
        )

        async def sent() -> AsyncIterator[bytes]:
            for part in parts:
                yield part.SerializeToString()

        async def talk(channel: grpc.aio.Channel, timeout: float | None) -> bytes:
            method: Any = channel.stream_stream(_SYNC)
            call = method(sent(), timeout=timeout, wait_for_ready=self._wait_for_ready)
            answer: bytes | object = await call.read()
            if isinstance(answer, bytes):
                call.cancel()  # the one answer is all that is read
                return answer
            code = await call.code()
            if code is not grpc.StatusCode.OK:
                raise _Ended(code.name, await call.details() or "")
            return b""

        return await self._recorded("ExecuteTaskSync", attempt, endpoint, deadline, talk)

    async def logs(
        self, attempt: Attempt, meta: bytes, token: str = "", lines: int = 100
    ) -> tuple[Rpc, list[str], str]:
        """GetTaskLogs, in the form of Flyte 1: the call, the lines of a page, and the token of the
        next one, "" for none."""
        message = flyte1.GetTaskLogsRequest(resource_meta=meta, lines=lines, token=token)
        message.task_category.name = attempt.task.type
        raw = message.SerializeToString()
        said: list[str] = []
        following = ""

        async def talk(channel: grpc.aio.Channel, timeout: float | None) -> bytes:
            nonlocal following
            method: Any = channel.unary_stream(f"/{_SERVICES[1]}/GetTaskLogs")
            async for part in method(raw, timeout=timeout):
                answer = flyte1.GetTaskLogsResponse.FromString(part)
                said.extend(line.message for line in answer.body.structured_lines)
                following = answer.header.token or following
            return b""

        rpc = await self._recorded("GetTaskLogs", attempt, "", None, talk)
        return rpc, said, following

    async def list_agents(self, endpoint: str = "") -> Rpc:
        """ListAgents, or ListConnectors, on a connection of its own, as Flyte 1 has it."""

        async def talk(_: grpc.aio.Channel, timeout: float | None) -> bytes:
            async with self._channel(endpoint) as channel:
                call: Any = channel.unary_unary(_LISTS[self.generation])
                # A request without fields is no bytes at all in protobuf.
                return bytes(await call(b"", timeout=timeout))

        endpoint = endpoint or self._next()
        return await self._recorded("ListAgents", None, endpoint, None, talk)

    async def _unary(
        self, method: str, message: Any, attempt: Attempt, endpoint: str, deadline: float | None
    ) -> Rpc:
        path = f"/{_SERVICES[self.generation]}/{method}"
        raw = message.SerializeToString()
        told: dict[str, Any] = {}

        async def talk(channel: grpc.aio.Channel, timeout: float | None) -> bytes:
            ask: Any = channel.unary_unary(path)
            call = ask(raw, timeout=timeout, wait_for_ready=self._wait_for_ready)
            answer = bytes(await call)
            trailing = dict(await call.trailing_metadata())
            told["may_run_on"] = trailing.get(MAY_RUN_ON, b"").decode()
            return answer

        return await self._recorded(method, attempt, endpoint, deadline, talk, told)

    async def _recorded(
        self,
        method: str,
        attempt: Attempt | None,
        endpoint: str,
        deadline: float | None,
        talk: _Talk,
        told: Mapping[str, Any] = MappingProxyType({}),
    ) -> Rpc:
        """Make a call, time it, and keep what came of it, also where it is cancelled. told: fields
        of the record that `talk` fills in."""
        endpoint = endpoint or self._next()
        if deadline is None:
            deadline = self._deadlines.get(method, self._deadline)
        began = time.monotonic()
        # So it stays when this task is cancelled: neither handler below sees a CancelledError.
        code, text, raw = "CANCELLED", "", b""
        try:
            raw = await talk(self._channels[endpoint], deadline)
            code = "OK"
        except grpc.aio.AioRpcError as error:
            code, text = error.code().name, error.details() or ""
        except _Ended as ended:
            code, text = ended.code, ended.text
        finally:
            rpc = Rpc(
                method=method,
                endpoint=endpoint,
                attempt=attempt.number if attempt is not None else 0,
                code=code,
                seconds=time.monotonic() - began,
                began=began,
                message=text,
                **self._read(method, raw),
                **told,
            )
            self.history.append(rpc)
        return rpc

    def _read(self, method: str, raw: bytes) -> dict[str, Any]:
        """The parts of an answer. Flyte 2's messages are read as Flyte 1's: they are the same on
        the wire in all that matters here."""
        if method == "CreateTask":
            return {"meta": flyte1.CreateTaskResponse.FromString(raw).resource_meta}
        if method == "GetTask" and raw:
            return {"resource": flyte1.GetTaskResponse.FromString(raw).resource}
        if method == "ExecuteTaskSync" and raw:
            return {"resource": flyte1.ExecuteTaskSyncResponse.FromString(raw).header.resource}
        if method == "ListAgents":
            return {"agents": self._agents(raw)}
        return {}

    def _agents(self, raw: bytes) -> dict[str, bool]:
        """Task type to whether it is synchronous, which Flyte 2 does not know."""
        found: dict[str, bool] = {}
        if self.generation == 2:
            for connector in flyte2.ListConnectorsResponse.FromString(raw).connectors:
                found |= {each.name: False for each in connector.supported_task_categories}
            return found
        for agent in flyte1.ListAgentsResponse.FromString(raw).agents:
            names = [each.name for each in agent.supported_task_categories]
            found |= dict.fromkeys([*agent.supported_task_types, *names], bool(agent.is_sync))
        return found

    def _channel(self, endpoint: str) -> grpc.aio.Channel:
        options = _BALANCED if "," in endpoint else _OPTIONS
        if self._tls is not None:
            return grpc.aio.secure_channel(endpoint, self._tls, options=options)
        return grpc.aio.insecure_channel(endpoint, options=options)

    def _name_type(self, message: Any, attempt: Attempt) -> None:
        message.task_category.name = attempt.task.type
        message.task_category.version = attempt.task.template.task_type_version
        if self.generation == 1:
            message.task_type = attempt.task.type

    def _next(self) -> str:
        failing = grpc.ChannelConnectivity.TRANSIENT_FAILURE
        names = [n for n, c in self._channels.items() if c.get_state() is not failing]
        # Where all are away one is asked all the same: its UNAVAILABLE counts as Flyte's would.
        names = names or list(self._channels)
        return names[next(self._turn) % len(names)]


class _Ended(Exception):
    """A stream that ended without an answer."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


def _with_connection(kind: Any, message: Any, attempt: Attempt) -> Any:
    converted = kind.FromString(message.SerializeToString())
    # The executor always sends one, and `{}` where the task names no secrets: no task type.
    converted.connection.SetInParent()
    converted.connection.secrets.update(attempt.secrets)
    converted.connection.configs.update(attempt.configs)
    return converted
