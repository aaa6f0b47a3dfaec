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


class Serving:
    """Around the work on one RPC. `operation` has the name that flytekit's metrics use."""

    def __init__(
        self, kernel: Kernel, service: str, method: str, operation: str, context: Context
    ) -> None:
        self._kernel = kernel
        self._operation = operation
        self._context = context
        self._started = time.perf_counter()
        metadata = context.invocation_metadata() or ()
        self._rpc = Rpc(kernel.telemetry.tracing, service, method, metadata)

    async def __aenter__(self) -> tuple[Deadline, Rpc]:
        remaining = self._context.time_remaining()
        at_work = self._operation == SYNC
        return Deadline.at_work(remaining) if at_work else Deadline(remaining), self._rpc

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        code, text = "OK", ""
        if isinstance(error, Refused):
            code, text = error.code, error.message
        # A streamed method is an async generator: one that is closed early ends by GeneratorExit.
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            code = "CANCELLED"
        elif error is not None:
            error_id = secrets.token_hex(4)
            code, text = "INTERNAL", f"internal error; id {error_id} finds the server's log line"
            log.error("%s failed", self._operation, exc_info=error, extra={"error_id": error_id})
        kernel, seconds = self._kernel, time.perf_counter() - self._started
        label = kernel.label(self._rpc.task_type)
        kernel.telemetry.metrics.request(label, self._operation, seconds, code)
        self._rpc.end(code, text)
        if text:
            # It raises in place of the error, which gRPC would else send to the caller as UNKNOWN,
            # text and all.
            await self._context.abort(grpc.StatusCode[code], redact(text))
