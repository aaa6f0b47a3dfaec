"""A real agent server: `flyteagents serve` as a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flyteagents._cli.serve import UNAVAILABLE


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerEnded(Exception):
    """The server ended, or was not ready in time; the text has its log."""


class RealServer:
    """Starts a server on a free port and stops it at the end of the `with` block.

    plugins: entry-point names to load; None loads all that are installed.
    env: further variables. Other variables `FLYTEAGENTS_*` and `OTEL_*` do not reach the server.
    python_path: folders, or wheels, with agents that are not installed; each has a `*.dist-info`.
    python: the interpreter of another environment, if it is to run there.

    ```python
    with RealServer(plugins=["acme"], env={"FLYTEAGENTS_ACME_URL": vendor.url}) as server:
        channel = grpc.insecure_channel(server.endpoint)
        server.kill()
        server.restart()          # the same port, and nothing remembered
    ```
    In async code enter it with `async with`, and call `restart` and `terminate` by
    `asyncio.to_thread`, so that a fake vendor on the same loop goes on meanwhile.
    """

    def __init__(
        self,
        plugins: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        python_path: Sequence[Path | str] = (),
        *,
        port: int | None = None,
        ready_within: float = 20.0,
        python: str | Path = sys.executable,
    ) -> None:
        self.port = port or free_port()
        self._port_given = port is not None
        self._ready_within, self._python = ready_within, str(python)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLYTEAGENTS_", "OTEL_"))}
        paths = [*map(str, python_path), *filter(None, [kept.get("PYTHONPATH")])]
        self.env = {
            **kept,
            "PYTHONPATH": os.pathsep.join(paths),
            "FLYTEAGENTS_HOST": "127.0.0.1",
            "FLYTEAGENTS_METRICS_PORT": "0",
            "FLYTEAGENTS_DRAIN_DELAY": "0",
            **({} if plugins is None else {"FLYTEAGENTS_PLUGINS": ",".join(plugins)}),
            **(env or {}),
        }
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 # closed by `close`
        self._written = ""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Host and port, as a gRPC target."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """All that the server has written, restarts included; also after its end."""
        if not self._log.closed:
            file = self._log.fileno()
            self._written = os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")
        return self._written

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> None:
        """Start it, and wait until its health says SERVING. Raises ServerEnded."""
        while not self._started():
            if self._port_given or self._running().returncode != UNAVAILABLE:
                raise ServerEnded(f"exit code {self._running().returncode}:\n{self.log}")
            self.port = free_port()  # somebody took the port between our look and the server's
        self._port_given = True  # restarts come back to it

    def _started(self) -> bool:
        self.process = subprocess.Popen(
            [self._python, "-m", "flyteagents", "serve", "--port", str(self.port)],
            env=self.env,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        end = time.monotonic() + self._ready_within
        while not self.serving():
            if self.process.poll() is not None or time.monotonic() > end:
                self.kill()
                return False
            time.sleep(0.02)
        return True

    def serving(self, service: str = "") -> bool:
        """Whether its health says SERVING."""
        with grpc.insecure_channel(self.endpoint) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            try:
                reply = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=1)
            except grpc.RpcError:
                return False
            return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def kill(self) -> None:
        """SIGKILL: no drain, no goodbye."""
        self._running().kill()
        self._running().wait()

    def terminate(self, within: float = 30.0) -> int:
        """SIGTERM, and the exit code after the drain."""
        self._running().send_signal(signal.SIGTERM)
        return self._running().wait(within)

    def restart(self) -> None:
        """Start it again on the same port, killing it first if it still runs."""
        if self._running().poll() is None:
            self.kill()
        self.start()

    def close(self) -> None:
        """Stop it if it runs. The log stays readable."""
        if self.process is not None and self.process.poll() is None:
            try:
                self.terminate()
            except subprocess.TimeoutExpired:
                self.kill()
        self._written = self.log
        self._log.close()

    def __enter__(self) -> RealServer:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    async def __aenter__(self) -> RealServer:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *raised: object) -> None:
        await asyncio.to_thread(self.close)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise ServerEnded("the server was not started")
        return self.process
