"""A collector that counts the spans it gets and drops them."""

from __future__ import annotations

import asyncio
import sys

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_TRACES = "opentelemetry.proto.collector.trace.v1.TraceService"
_METRICS = "opentelemetry.proto.collector.metrics.v1.MetricsService"


async def serve(port: int) -> None:
    spans = 0

    async def take(raw: bytes, context: object) -> bytes:
        nonlocal spans
        for resource in ExportTraceServiceRequest.FromString(raw).resource_spans:
            spans += sum(len(scope.spans) for scope in resource.scope_spans)
        return b""

    async def drop(raw: bytes, context: object) -> bytes:
        return b""

    async def count(raw: bytes, context: object) -> bytes:
        return str(spans).encode()

    server = grpc.aio.server()
    for service, methods in (
        (_TRACES, {"Export": take}),
        (_METRICS, {"Export": drop}),
        ("bench.Collector", {"Count": count}),
    ):
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    service,
                    {name: grpc.unary_unary_rpc_method_handler(do) for name, do in methods.items()},
                ),
            )
        )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
