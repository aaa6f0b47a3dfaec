"""Real servers, as processes that the attacks kill, starve and restart."""

from __future__ import annotations

import asyncio
import os
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flyteagents.testing import Caller, Generation, RealServer, free_port

HERE = Path(__file__).parent
PATH = (HERE.parent / "agents", HERE / "agents")


class Server:
    """The test kit's server with a Prometheus page. Nothing here blocks the loop, on which the
    vendors run."""

    def __init__(self, plugins: str, env: Mapping[str, str]) -> None:
        self.metrics_port = free_port()
        page = {
            "FLYTEAGENTS_METRICS_HOST": "127.0.0.1",
            "FLYTEAGENTS_METRICS_PORT": str(self.metrics_port),
        }
        self.real = RealServer(plugins.split(","), {**page, **env}, PATH)

    @property
    def target(self) -> str:
        return self.real.endpoint

    @property
    def log(self) -> str:
        return self.real.log

    @property
    def running(self) -> bool:
        return self.real.process is not None and self.real.process.poll() is None

    @property
    def resident(self) -> int:
        """Bytes of memory that the process has now."""
        pages = Path(f"/proc/{self.real.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.target)

    def caller(self, generation: Generation = 1, deadline: float = 5.0) -> Caller:
        return Caller(self.target, generation=generation, deadline=deadline)

    async def start(self) -> None:
        await asyncio.to_thread(self.real.start)

    async def kill(self) -> None:
        """SIGKILL: no drain, no goodbye."""
        await asyncio.to_thread(self.real.kill)

    async def stop(self) -> int:
        """SIGTERM, and wait for the end of the drain. The exit code."""
        return await asyncio.to_thread(self.real.terminate)

    async def close(self) -> None:
        if self.running:
            await self.kill()
        self.real.__exit__(None, None, None)  # only its log is left to close

    async def health(self, timeout: float = 2.0) -> int:
        """The status of the whole server."""
        async with self.channel() as channel:
            reply = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=timeout
            )
            return int(reply.status)

    async def metrics(self) -> str:
        """The Prometheus page."""

        def read() -> str:
            url = f"http://127.0.0.1:{self.metrics_port}/metrics"
            with urllib.request.urlopen(url, timeout=10) as page:
                return str(page.read().decode())

        return await asyncio.to_thread(read)


def together(*servers: Server) -> str:
    """One target for all of them, balanced as FlytePropeller's is: round robin over those that
    have a connection, and deaf to health."""
    return "ipv4:" + ",".join(server.target for server in servers)
