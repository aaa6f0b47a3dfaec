"""A real agent server: `flyteagents serve` as a process of its own."""

from __future__ import annotations

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
    python_path: folders with agents that are not installed, each with its `*.dist-info`.

    ```python
    with RealServer(plugins=["acme"], env={"FLYTEAGENTS_ACME_URL": vendor.url}) as server:
        channel = grpc.insecure_channel(server.endpoint)
    ```
    """

    def __init__(
        self,
        plugins: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        python_path: Sequence[Path | str] = (),
        *,
        port: int | None = None,
        ready_within: float = 20.0,
    ) -> None:
        self.port = port or free_port()
        self.endpoint = f"127.0.0.1:{self.port}"
        self._ready_within = ready_within
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
        self._log = tempfile.NamedTemporaryFile(prefix="flyteagents-", suffix=".log")  # noqa: SIM115
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """All that the server has written."""
        return Path(self._log.name).read_text(errors="replace")

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> None:
        """Start it, and wait until its health says SERVING. Raises ServerEnded."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flyteagents", "serve", "--port", str(self.port)],
            env=self.env,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        end = time.monotonic() + self._ready_within
        while not self.serving():
            if self.process.poll() is not None or time.monotonic() > end:
                raise ServerEnded(f"exit code {self.process.poll()}:\n{self.log}")
            time.sleep(0.02)

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

    def __enter__(self) -> RealServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            try:
                self.terminate()
            except subprocess.TimeoutExpired:
                self.kill()
        self._log.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise ServerEnded("the server was not started")
        return self.process
