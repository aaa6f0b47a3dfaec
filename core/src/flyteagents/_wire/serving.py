"""One RPC about a task: its deadline, its span, its metrics, and the boundary that no error
passes."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time

import grpc

from flyteagents._kernel.answers import Refused
from flyteagents._kernel.deadline import Deadline
from flyteagents._kernel.kernel import Kernel
from flyteagents._redact import redact
from flyteagents._telemetry.tracing import Rpc

log = logging.getLogger("flyteagents")
SYNC = "do"
"""What flytekit's metrics call ExecuteTaskSync."""
Context = grpc.aio.ServicerContext[bytes, bytes]


class Method:
    """A gRPC method, with what its calls have in common. `operation` has the name that flytekit's
    metrics use; `begun` and `ended` count the calls; `requests` the answers, by task type."""

    def __init__(self, kernel: Kernel, service: str, method: str, operation: str) -> None:
        self.name = f"{service}/{method}"
        self.operation = operation
        self.begun = self.ended = 0
        self.tracing = kernel.telemetry.tracing
        # Task types come from outside, so only those that are served have series.
        count = kernel.telemetry.metrics.requests
        self.requests = {each: count(each, operation) for each in kernel.agents}
        self.others = count("unknown", operation)


class Serving:
    """Around the work on one RPC.

    A streamed method is within it by `async with`. A plain one calls `answered` or `failed` itself:
    the two coroutines would be a tenth of what a GetTask takes here."""

    def __init__(self, method: Method, context: Context) -> None:
        method.begun += 1
        self._method = method
        self._context = context
        self._started = time.perf_counter()
        self.rpc = Rpc(method.tracing, method.name, context.invocation_metadata)
        remaining = context.time_remaining()
        at_work = method.operation == SYNC
        self.deadline = Deadline.at_work(remaining) if at_work else Deadline(remaining)

    def answered(self, code: str = "OK", text: str = "") -> None:
        """The RPC ends, with the name of a gRPC status code."""
        seconds = time.perf_counter() - self._started
        method, task_type = self._method, self.rpc.attempt.task_type
        method.ended += 1
        method.requests.get(task_type, method.others).answered(seconds, code)
        self.rpc.end(code, text)

    async def failed(self, error: BaseException) -> None:
        """The RPC ends with an error. Raises what gRPC is to see of it, if anything."""
        code, text = "INTERNAL", ""
        if isinstance(error, Refused):
            code, text = error.code, error.message
        # A streamed method is an async generator: one that is closed early ends by GeneratorExit.
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            code = "CANCELLED"
        else:
            error_id = secrets.token_hex(4)
            text = f"internal error; id {error_id} finds the server's log line"
            log.error(
                "%s failed", self._method.operation, exc_info=error, extra={"error_id": error_id}
            )
        self.answered(code, text)
        if text:
            # It raises in place of the error, which gRPC would else send to the caller as UNKNOWN,
            # text and all.
            await self._context.abort(grpc.StatusCode[code], redact(text))

    async def __aenter__(self) -> Serving:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.answered()
        else:
            await self.failed(error)
