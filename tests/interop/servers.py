"""The processes on the other side of FlytePropeller: our server, and the vendor behind it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A Python module as a process, with its output in a file."""

    def __init__(self, log: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self._log, self._arguments, self._env = log, arguments, env or {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert self._process is None, "it runs already"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._arguments],
                cwd=ROOT,
                env={**os.environ, **self._env},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL: no drain, no goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait for the end of the drain."""
        if self._process is not None:
            self._end(signal.SIGTERM)

    def log(self) -> str:
        return self._log.read_text()[-3000:]

    def check_alive(self) -> None:
        assert self._process is not None
        code = self._process.poll()
        assert code is None, f"{' '.join(self._arguments)} ended with {code}:\n{self.log()}"

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(how)
        process.wait(20)


class AgentServer(Process):
    """`flyteagents serve` on a port of its own, which it keeps when it is started again."""

    def __init__(self, log: Path, env: Mapping[str, str]) -> None:
        self.port = free_port()
        super().__init__(log, "flyteagents", "serve", "--port", str(self.port), env=env)
        self.env = {**os.environ, **env}

    def start(self) -> None:
        super().start()
        until = time.monotonic() + 20
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while True:
                self.check_alive()
                try:
                    answer = health.Check(health_pb2.HealthCheckRequest(), timeout=1)
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                except grpc.RpcError:
                    pass
                assert time.monotonic() < until, f"not serving:\n{self.log()}"
                time.sleep(0.05)

    def run(self, *arguments: str) -> str:
        """What another command of the CLI prints, in the server's environment."""
        done = subprocess.run(
            [sys.executable, "-m", "flyteagents", *arguments],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


class VendorService(Process):
    """The made-up vendor of the test kit. It goes on when our server is killed."""

    def __init__(self, log: Path) -> None:
        port = free_port()
        super().__init__(log, "flyteagents.testing.jobs", "--port", str(port))
        self.url = f"http://127.0.0.1:{port}"

    def start(self) -> None:
        super().start()
        until = time.monotonic() + 20
        while True:
            self.check_alive()
            try:
                self.jobs("nobody")
            except urllib.error.URLError:
                assert time.monotonic() < until, f"the vendor does not answer:\n{self.log()}"
                time.sleep(0.05)
            else:
                return

    def jobs(self, execution: str) -> list[dict[str, Any]]:
        """The jobs that it started for this execution."""
        with urllib.request.urlopen(f"{self.url}/jobs?tag={execution}", timeout=10) as reply:
            found: list[dict[str, Any]] = json.load(reply)["jobs"]
            return found
