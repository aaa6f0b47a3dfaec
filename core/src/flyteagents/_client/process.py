"""A server as a process of its own, from its start to its end.

A free port, health before the first call, a log that outlives the process, and an end on every way
out: the server reads its standard input, which closes with whoever started it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flyteagents._client.exit_codes import UNAVAILABLE

ServerT = TypeVar("ServerT", bound="ServerProcess")
_STOPPED_WITHIN = 30.0
"""Seconds after SIGTERM, which a drain may need."""
# By default gRPC waits a second before it tries an address again that refused it, and a server
# that starts refuses at first.
_RECONNECT = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50))


_PORTS = range(10_000, 32_000)
"""Below those that Linux and macOS give away by themselves (from 32768 and 49152 on)."""


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now. Nobody else is given it by the
    system: a server that is restarted finds it free again."""
    with _bound() as taken:
        return int(taken.getsockname()[1])


def _bound() -> socket.socket:
    for _ in range(100):
        taken = socket.socket()
        try:
            # Not by `random`: processes with the same seed would choose the same ones.
            taken.bind(("127.0.0.1", secrets.choice(_PORTS)))
        except OSError:
            taken.close()
            continue
        return taken
    raise OSError(f"no port of {_PORTS.start} to {_PORTS.stop - 1} is free")


def _held() -> tuple[int, socket.socket]:
    """A port that `free_port` gives to nobody while this is open. A server that starts listens on
    it a second later: until then another could be given it, and be taken for this one."""
    taken = _bound()
    port = int(taken.getsockname()[1])
    # Linux lets who asks for this too, as gRPC does, listen where somebody is bound and does not.
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform != "linux":
        taken.close()
    return port, taken


class ServerEnded(Exception):
    """The server ended, or was not ready in time; the text has its log. `code` is its exit code,
    None for one that ran and was not ready."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class ServerProcess:
    """`flyteagents serve` on a port of 127.0.0.1 while entered.

    env: all of its environment. port: None takes a free one. ready_within: seconds.
    python: the interpreter of another environment, if it is to run there.
    shown: it writes to our own standard error; else to `log`. options: more of the command's.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        *,
        port: int | None = None,
        ready_within: float = 60.0,
        python: str | Path = sys.executable,
        shown: bool = False,
        options: Sequence[str] = (),
    ) -> None:
        self.env = dict(env)
        self._port: socket.socket | None = None
        if port is None:
            self._take_port()
        else:
            self.port = port
        self.process: subprocess.Popen[bytes] | None = None
        self._port_given = port is not None
        self._ready_within, self._python, self._shown = ready_within, str(python), shown
        self._options = options
        # No pipe: what the server itself starts may hold its end, and live on without us.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 # closed by `close`
        self._written = ""

    @property
    def endpoint(self) -> str:
        """Host and port, as a gRPC target."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """All that the server has written, restarts included; also after its end."""
        if not self._file.closed:
            # `pread`: the server writes at the position that both share, and a seek would move it.
            file = self._file.fileno()
            self._written = os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")
        return self._written

    @property
    def pid(self) -> int:
        return self._started().pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def ending(self) -> str:
        """How a server that has ended did so, in words."""
        code = self._started().returncode
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def start(self) -> None:
        """Start it, and wait until its health says SERVING. Raises ServerEnded."""
        while not self._ready():
            code = self._started().poll()
            self.kill()
            if self._port_given or code != UNAVAILABLE:
                why = "not ready in time" if code is None else f"exit code {code}"
                raise ServerEnded(f"{why}:\n{self.log}", code)
            self._take_port()  # somebody took it who had not asked whether it was free
        self._port_given = True  # restarts come back to it

    def serving(self, service: str = "") -> bool:
        """Whether its health says SERVING."""
        with grpc.insecure_channel(self.endpoint, options=_RECONNECT) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            try:
                reply = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=1)
            except grpc.RpcError:
                return False
            return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def kill(self) -> None:
        """SIGKILL: no drain, no goodbye."""
        self._started().kill()
        self._wait(None)

    def ask_to_stop(self) -> None:
        """SIGTERM, and no waiting."""
        if self.running:
            self._started().send_signal(signal.SIGTERM)

    def terminate(self, within: float = _STOPPED_WITHIN) -> int:
        """SIGTERM, and the exit code after the drain. Raises subprocess.TimeoutExpired."""
        self.ask_to_stop()
        return self._wait(within)

    def restart(self) -> None:
        """Start it again on the same port, killing it first if it still runs."""
        if self.running:
            self.kill()
        self.start()

    def stop(self) -> int:
        """SIGTERM, and SIGKILL if that is not enough. The exit code."""
        if self.process is None:
            return 0
        try:
            return self.terminate()
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.returncode

    def close(self) -> int:
        """Stop it if it runs. The exit code. The log stays readable."""
        code = self.stop()
        self._written = self.log
        self._file.close()
        self._leave_port()
        return code

    def __enter__(self: ServerT) -> ServerT:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    async def __aenter__(self: ServerT) -> ServerT:
        # In a thread: it blocks, and a fake vendor on this loop has to answer meanwhile.
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *raised: object) -> None:
        await asyncio.to_thread(self.close)

    def _take_port(self) -> None:
        self._leave_port()
        self.port, self._port = _held()

    def _leave_port(self) -> None:
        if self._port is not None:
            self._port.close()

    def _ready(self) -> bool:
        output = None if self._shown else self._file
        command = [self._python, "-m", "flyteagents", "serve", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--until-stdin-ends", *self._options],
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            # Ctrl-C in the terminal is for us: a job is cancelled through the server first.
            start_new_session=True,
        )
        end = time.monotonic() + self._ready_within
        while not self.serving():
            if not self.running or time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def _wait(self, seconds: float | None) -> int:
        process = self._started()
        code = process.wait(seconds)
        if process.stdin is not None:
            process.stdin.close()
        return code

    def _started(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise ServerEnded("the server was not started")
        return self.process
