"""The gRPC methods about tasks, of both generations, on raw bytes: bytes that do not parse are
answered by us."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from flyteidl.admin import agent_pb2 as flyte1
from flyteidl2.connector import connector_pb2 as flyte2

from flyteagents._kernel.answers import MAY_RUN_ON, Refused
from flyteagents._kernel.deadline import Deadline
from flyteagents._kernel.service import Service
from flyteagents._telemetry.tracing import Rpc
from flyteagents._wire import messages
from flyteagents._wire.messages import FLYTE1, FLYTE2, LINE_LIMIT, RESPONSE_LIMIT, parse
from flyteagents._wire.metadata import Handlers, metadata_handlers
from flyteagents._wire.serving import SYNC, Context, Method, Serving

Body = Callable[[bytes, Deadline, Rpc], Awaitable[bytes]]
REMEMBERED = 8 * 1024
"""Bytes of a poll that is remembered. An ordinary one has 1 to 3 KiB."""
LINES = 1000
"""Lines of a page of a log, where the caller does not say."""
LINES_AT_ONCE = RESPONSE_LIMIT // LINE_LIMIT - 10
"""Lines in one message of its stream, however long they are."""
_SYNC = "flyteidl.service.SyncAgentService"


class Methods:
    """What is served under which name."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._kernel = service.kernel
        self._methods: list[Method] = []
        # Task types come from outside, so only those that are served have series.
        inputs = self._kernel.telemetry.metrics.inputs
        self._inputs = {each: inputs(each) for each in self._kernel.agents}
        self._other_inputs = inputs("unknown")
        self._sync = self._method(_SYNC, "ExecuteTaskSync", SYNC)

    @property
    def begun(self) -> int:
        """How many calls there were."""
        return sum(method.begun for method in self._methods)

    @property
    def running(self) -> int:
        """How many calls have no answer yet."""
        return sum(method.begun - method.ended for method in self._methods)

    def handlers(self) -> Handlers:
        asynchronous = {
            "flyteidl.service.AsyncAgentService": FLYTE1,
            "flyteidl2.connector.AsyncConnectorService": FLYTE2,
        }
        return {
            **{name: self._asynchronous(name, each) for name, each in asynchronous.items()},
            _SYNC: {"ExecuteTaskSync": grpc.stream_stream_rpc_method_handler(self._execute)},
            # An agent is there once for each of its types. A dict keeps the order, as a set would
            # not: ListAgents is to be constant (rule 9).
            **metadata_handlers(dict.fromkeys(self._kernel.agents.values())),
        }

    def _asynchronous(
        self, service: str, generation: int
    ) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        pb: Any = flyte1 if generation == FLYTE1 else flyte2
        polls = self._kernel.soft.requests

        async def create(raw: bytes, deadline: Deadline, rpc: Rpc) -> bytes:
            request = messages.create_request(raw, generation)
            self._inputs.get(request.task_type, self._other_inputs).record(len(raw))
            meta = await self._service.create(request, deadline, rpc)
            response: bytes = pb.CreateTaskResponse(resource_meta=meta).SerializeToString()
            return response

        async def get(raw: bytes, deadline: Deadline, rpc: Rpc) -> bytes:
            # Flyte 1 knows no connection, so the same bytes may mean less to it.
            name = raw if generation == FLYTE1 else b"2" + raw
            remembered = polls.get(name)
            request = remembered or messages.job_request(
                parse(flyte1.GetTaskRequest, raw), raw, generation
            )
            answer = await self._service.get(request, deadline, rpc)
            if remembered is None and request.known is not None and len(raw) <= REMEMBERED:
                polls.put(name, request)
            return messages.get_response(answer, generation)

        delete_task = self._method(service, "DeleteTask", "delete")

        async def delete(raw: bytes, context: Context) -> bytes:
            async with Serving(delete_task, context) as serving:
                message = parse(flyte1.DeleteTaskRequest, raw)
                request = messages.job_request(message, raw, generation)
                why = await self._service.delete(request, serving.deadline, serving.rpc)
                if why:
                    context.set_trailing_metadata(((MAY_RUN_ON, why.encode()),))
            return b""  # a DeleteTaskResponse has no fields

        get_logs = self._method(service, "GetTaskLogs", "logs")

        async def logs(raw: bytes, context: Context) -> AsyncIterator[bytes]:
            async with Serving(get_logs, context) as serving:
                message = parse(flyte1.GetTaskLogsRequest, raw)
                request = messages.job_request(message, raw, generation)
                wanted = int(message.lines) or LINES
                page = await self._service.logs(request, message.token, wanted, serving.rpc)
                for start in range(0, len(page.lines), LINES_AT_ONCE):
                    some = page.lines[start : start + LINES_AT_ONCE]
                    yield messages.log_body(some, generation).SerializeToString()
                # Flyte 2 stops paging where no header comes, so the last page must have none.
                if page.next:
                    yield messages.log_header(page.next, generation).SerializeToString()

        return {
            "CreateTask": _unary(self._method(service, "CreateTask", "create"), create),
            "GetTask": _unary(self._method(service, "GetTask", "get"), get),
            "DeleteTask": grpc.unary_unary_rpc_method_handler(delete),
            "GetTaskLogs": grpc.unary_stream_rpc_method_handler(logs),
        }

    async def _execute(
        self, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        """Propeller sends the header, then the inputs, and reads one answer."""
        async with Serving(self._sync, context) as serving:
            # Inputs may never come: a caller that has none may end the stream after the header.
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
            self._inputs.get(request.task_type, self._other_inputs).record(inputs.ByteSize())
            answer = await self._service.run(request, serving.deadline, serving.rpc)
            resource = messages.resource(answer, FLYTE1)
            # Propeller reads one message and hangs up, so outputs go into the header; a message of
            # their own would never be read (webapi/agent/plugin.go:188-247).
            yield flyte1.ExecuteTaskSyncResponse(
                header=flyte1.ExecuteTaskSyncResponseHeader(resource=resource)
            ).SerializeToString()

    def _method(self, service: str, name: str, operation: str) -> Method:
        self._methods.append(Method(self._kernel, service, name, operation))
        return self._methods[-1]


def _unary(method: Method, body: Body) -> grpc.RpcMethodHandler[bytes, bytes]:
    async def handle(raw: bytes, context: Context) -> bytes:
        serving = Serving(method, context)
        try:
            reply = await body(raw, serving.deadline, serving.rpc)
        except BaseException as error:
            await serving.failed(error)
            raise
        serving.answered()
        return reply

    return grpc.unary_unary_rpc_method_handler(handle)
