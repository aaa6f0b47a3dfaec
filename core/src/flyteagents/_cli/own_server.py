"""The server that `flyteagents run` starts for itself."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from types import TracebackType

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flyteagents._cli.serve import UNAVAILABLE
from flyteagents._cli.server_log import ServerLog

_READY_WITHIN = 30.0
_STOPPED_WITHIN = 20.0
# Nobody else may call it, and nobody has to move away from it before it ends.
_PRIVATE = {
    "FLYTEAGENTS_HOST": "127.0.0.1",
    "FLYTEAGENTS_METRICS_PORT": "0",
    "FLYTEAGENTS_DRAIN_DELAY": "0",
    "FLYTEAGENTS_DRAIN_LIMIT": "10",
}
_LEFT_OUT = ("FLYTEAGENTS_PORT", "FLYTEAGENTS_TLS_CERT", "FLYTEAGENTS_TLS_KEY")


class NotStarted(Exception):
    """The server ended before it served. `code` is its exit code."""

    def __init__(self, code: int, log: str) -> None:
        super().__init__(log)
        self.code = code


class OwnServer:
    """`flyteagents serve` as a process of its own on a free port, from entering to leaving.

    env: variables for it besides this process's. show_log: let it write to our standard error;
    else its warnings and errors alone are shown there.
    """

    def __init__(self, env: Mapping[str, str] | None = None, show_log: bool = False) -> None:
        inherited = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
        form = {"FLYTEAGENTS_LOG_FORMAT": "text" if show_log else "json"}
        self._env = {**inherited, **_PRIVATE, **form, **(env or {})}
        self._log = None if show_log else ServerLog()
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoint = ""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def log(self) -> str:
        """The end of what it has written and was not shown; whole once it has stopped."""
        return self._log.rest if self._log is not None else ""

    def start(self) -> None:
        """Start it, and wait until health says SERVING. Raises NotStarted."""
        for _ in range(3):
            self._spawn()
            if self._ready():
                return
            if self._exit_code() != UNAVAILABLE:
                break  # else somebody took the port between our look and the server's
        code = self._exit_code()
        self.stop()
        raise NotStarted(code, self.log)

    def ask_to_stop(self) -> None:
        """SIGTERM, and no waiting."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """SIGTERM, and wait for a clean end. The exit code."""
        process = self._process
        code = 0
        if process is not None:
            self.ask_to_stop()
            try:
                code = process.wait(_STOPPED_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
        if self._log is not None:
            self._log.close()
        self._process = None
        return code

    def __enter__(self) -> OwnServer:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _spawn(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.endpoint = f"127.0.0.1:{port}"
        output = self._log.fileno() if self._log is not None else None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flyteagents", "serve", "--port", str(port)],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C in the terminal is for us: the job is cancelled through the server first.
            start_new_session=True,
        )

    def _ready(self) -> bool:
        end = time.monotonic() + _READY_WITHIN
        options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50)]
        with grpc.insecure_channel(self.endpoint, options=options) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while self.running and time.monotonic() < end:
                try:
                    answer = health.Check(health_pb2.HealthCheckRequest(), timeout=1)
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return True
                except grpc.RpcError:
                    pass
                time.sleep(0.03)
        return False

    def _exit_code(self) -> int:
        code = self._process.poll() if self._process is not None else None
        return UNAVAILABLE if code is None else code
