"""The calls that Flyte makes, of both generations, and a record of each."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import grpc
from flyteidl.admin import agent_pb2 as flyte1
from flyteidl2.connector import connector_pb2 as flyte2

from flyteagents._status import Link, Phase
from flyteagents._wire.literals import decode_literals
from flyteagents._wire.structs import from_struct
from flyteagents.testing.tasks import Attempt, Generation, create_message

_OPTIONS = (
    # The default waits for up to two minutes before it connects again.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
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
_PHASES = {phase.value: phase for phase in Phase}


@dataclass(frozen=True)
class Rpc:
    """One call and its answer. It never raises: `code` is the name of the gRPC status.

    began: `time.monotonic()`. number: the phase as it was answered, also where no `Phase` has it.
    """

    method: str
    endpoint: str
    attempt: int
    code: str
    seconds: float
    began: float
    message: str = ""
    meta: bytes = b""
    resource: Any = field(default=None, repr=False)
    agents: Mapping[str, bool] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.code == "OK"

    @property
    def number(self) -> int:
        return 0 if self.resource is None else int(self.resource.phase)

    @property
    def phase(self) -> Phase | None:
        """The phase that was answered; None for failed calls and phases that are not ours."""
        return _PHASES.get(self.number)

    @property
    def links(self) -> Sequence[Link]:
        found = [] if self.resource is None else self.resource.log_links
        return [Link(link.name, link.uri) for link in found]

    @property
    def info(self) -> Mapping[str, object]:
        return {} if self.resource is None else from_struct(self.resource.custom_info)

    @property
    def outputs(self) -> Mapping[str, object] | None:
        """The outputs as Python values; None where the answer has none."""
        if self.resource is None or not self.resource.HasField("outputs"):
            return None
        return decode_literals(self.resource.outputs, {})


class Caller:
    """Makes calls to one or more replicas in turn, as a round-robin client does: one that does
    not answer is left out while another does. A context manager.

    endpoints: one for each replica; or a gRPC target with several of them, such as
        `ipv4:10.0.0.1:8000,10.0.0.2:8000`, which gRPC itself balances.
    deadline: seconds for each call: 10 is the default of Flyte's sections `connector-service`,
    3 that of Flyte 1's `agent-service`; None is what endpoints under `connectors:` get.
    deadlines: by method, over `deadline`. history: every call made.
    """

    def __init__(
        self,
        *endpoints: str,
        generation: Generation = 1,
        deadline: float | None = 10.0,
        deadlines: Mapping[str, float | None] | None = None,
        wait_for_ready: bool = False,
    ) -> None:
        self.endpoints = endpoints
        self.generation: Generation = generation
        self.history: list[Rpc] = []
        self._deadline, self._deadlines = deadline, deadlines or {}
        self._wait_for_ready = wait_for_ready
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._turn = itertools.count()

    async def __aenter__(self) -> Caller:
        for endpoint in self.endpoints:
            options = _BALANCED if "," in endpoint else _OPTIONS
            self._channels[endpoint] = grpc.aio.insecure_channel(endpoint, options=options)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for channel in self._channels.values():
            await channel.close()

    async def create(
        self, attempt: Attempt, *, endpoint: str = "", deadline: float | None = None
    ) -> Rpc:
        """CreateTask."""
        message = create_message(attempt)
        if self.generation == 2:
            message = self._with_connection(flyte2.CreateTaskRequest, message, attempt)
        return await self._unary("CreateTask", message, attempt, endpoint, deadline)

    async def get(
        self, attempt: Attempt, meta: bytes, *, endpoint: str = "", deadline: float | None = None
    ) -> Rpc:
        """GetTask."""
        message = flyte1.GetTaskRequest(resource_meta=meta, output_prefix=attempt.output_prefix)
        self._name_type(message, attempt)
        if self.generation == 2:
            message = self._with_connection(flyte2.GetTaskRequest, message, attempt)
        return await self._unary("GetTask", message, attempt, endpoint, deadline)

    async def delete(
        self, attempt: Attempt, meta: bytes, *, endpoint: str = "", deadline: float | None = None
    ) -> Rpc:
        """DeleteTask."""
        message = flyte1.DeleteTaskRequest(resource_meta=meta)
        self._name_type(message, attempt)
        if self.generation == 2:
            message = self._with_connection(flyte2.DeleteTaskRequest, message, attempt)
        return await self._unary("DeleteTask", message, attempt, endpoint, deadline)

    async def run_sync(
        self, attempt: Attempt, *, endpoint: str = "", deadline: float | None = None
    ) -> Rpc:
        """ExecuteTaskSync: sends the header and the inputs, closes its half of the stream, and
        reads one answer, as FlytePropeller does."""
        header = flyte1.CreateRequestHeader(
            template=attempt.task.template,
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

    async def list_agents(self, endpoint: str = "") -> Rpc:
        """ListAgents, or ListConnectors, on a connection of its own, as Flyte 1 has it."""
        endpoint = endpoint or self._next()
        timeout, began = self._timeout("ListAgents"), time.monotonic()
        code, message, raw = "OK", "", b""
        async with grpc.aio.insecure_channel(endpoint, options=_OPTIONS) as channel:
            try:
                call: Any = channel.unary_unary(_LISTS[self.generation])
                raw = await call(b"", timeout=timeout)
            except grpc.aio.AioRpcError as error:
                code, message = error.code().name, error.details() or ""
        agents: dict[str, bool] = {}
        if self.generation == 1:
            for agent in flyte1.ListAgentsResponse.FromString(raw).agents:
                names = [*agent.supported_task_types]
                names += [category.name for category in agent.supported_task_categories]
                agents |= dict.fromkeys(names, bool(agent.is_sync))
        else:
            for connector in flyte2.ListConnectorsResponse.FromString(raw).connectors:
                names = [category.name for category in connector.supported_task_categories]
                agents |= dict.fromkeys(names, False)
        rpc = Rpc(
            "ListAgents", endpoint, 0, code, time.monotonic() - began, began, message,
            agents=agents,
        )  # fmt: skip
        self.history.append(rpc)
        return rpc

    async def _unary(
        self, method: str, message: Any, attempt: Attempt, endpoint: str, deadline: float | None
    ) -> Rpc:
        path = f"/{_SERVICES[self.generation]}/{method}"
        raw = message.SerializeToString()

        async def talk(channel: grpc.aio.Channel, timeout: float | None) -> bytes:
            call: Any = channel.unary_unary(path)
            return bytes(await call(raw, timeout=timeout, wait_for_ready=self._wait_for_ready))

        return await self._recorded(method, attempt, endpoint, deadline, talk)

    async def _recorded(
        self, method: str, attempt: Attempt, endpoint: str, deadline: float | None, talk: Any
    ) -> Rpc:
        endpoint = endpoint or self._next()
        timeout = deadline if deadline is not None else self._timeout(method)
        began, code, text, raw = time.monotonic(), "OK", "", b""
        try:
            raw = await talk(self._channels[endpoint], timeout)
        except grpc.aio.AioRpcError as error:
            code, text = error.code().name, error.details() or ""
        except _Ended as ended:
            code, text = ended.code, ended.text
        except asyncio.CancelledError:
            self.history.append(
                Rpc(method, endpoint, attempt.number, "CANCELLED", time.monotonic() - began, began)
            )
            raise
        rpc = Rpc(
            method, endpoint, attempt.number, code, time.monotonic() - began, began, text,
            **_read(method, raw),
        )  # fmt: skip
        self.history.append(rpc)
        return rpc

    def _name_type(self, message: Any, attempt: Attempt) -> None:
        message.task_category.name = attempt.task.type
        if self.generation == 1:
            message.task_type = attempt.task.type

    def _with_connection(self, kind: Any, message: Any, attempt: Attempt) -> Any:
        converted = kind.FromString(message.SerializeToString())
        converted.connection.task_type = attempt.task.type
        converted.connection.secrets.update(attempt.secrets)
        converted.connection.configs.update(attempt.configs)
        return converted

    def _timeout(self, method: str) -> float | None:
        return self._deadlines.get(method, self._deadline)

    def _next(self) -> str:
        failing = grpc.ChannelConnectivity.TRANSIENT_FAILURE
        names = [n for n, c in self._channels.items() if c.get_state() is not failing]
        names = names or list(self._channels)
        return names[next(self._turn) % len(names)]


class _Ended(Exception):
    """A stream that ended without an answer."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


def _read(method: str, raw: bytes) -> dict[str, Any]:
    """The parts of an answer. Flyte 2's messages are read as Flyte 1's: they are the same on the
    wire in all that matters here."""
    if method == "CreateTask":
        return {"meta": flyte1.CreateTaskResponse.FromString(raw).resource_meta}
    if method == "GetTask" and raw:
        return {"resource": flyte1.GetTaskResponse.FromString(raw).resource}
    if method == "ExecuteTaskSync" and raw:
        return {"resource": flyte1.ExecuteTaskSyncResponse.FromString(raw).header.resource}
    return {}
