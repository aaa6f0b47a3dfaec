"""The processes of a comparison: servers, client, vendor, collector; and what the kernel of the
operating system says of them."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from tests.vendors.certificates import self_signed
from typing_extensions import Self

from flyteagents.testing import free_port

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# `make bench` makes the environments side by side, of one Python.
BESIDE = Path(sys.prefix).parent
FLYTEKIT = BESIDE / "flytekit" / "bin" / "python"
_TICKS = os.sysconf("SC_CLK_TCK")
_EAGER = (
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.use_local_subchannel_pool", 1),
)


class Ended(Exception):
    """A process ended or did not start; the text has its log."""


class Process:
    """A process that ends with the `with` block. `started` is how many seconds it took to
    accept calls."""

    def __init__(
        self, name: str, argv: Sequence[str], port: int, env: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.port, self.started = name, port, 0.0
        self._argv = [*argv]
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(
                ("FLYTEAGENTS_", "OTEL_", "FLYTE_", "PYTHONPATH", "GRPC_", "GOOGLE_", "DATABRICKS_")
            )
        }
        self._env = {**kept, **(env or {})}

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def cpu(self) -> float:
        """Seconds of processor time, of all its threads."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def resident(self) -> float:
        """Megabytes of memory."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()  # closed by __exit__
        begun = time.perf_counter()
        self._process = subprocess.Popen(
            self._argv, env=self._env, stdout=self._log, stderr=self._log, cwd=ROOT
        )
        try:
            self._wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.started = time.perf_counter() - begun
        return self

    def _wait(self) -> None:
        with grpc.insecure_channel(self.target, _EAGER) as channel:
            ready = grpc.channel_ready_future(channel)
            for _ in range(600):
                try:
                    ready.result(0.1)
                except grpc.FutureTimeoutError:
                    if self._process.poll() is not None:
                        break
                else:
                    return
        self._log.seek(0)
        raise Ended(f"{self.name}:\n{self._log.read().decode(errors='replace')}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


class Vendor(Process):
    """The slow vendor; it speaks HTTP. dialect: a module of `stubs`.

    folder: for files that an agent needs to reach it; there while it runs. trust: variables by
    which an agent trusts its certificate.
    """

    def __init__(self, delay: float, dialect: str = "bench", tls: bool = False) -> None:
        port = free_port()
        super().__init__("vendor", _module("vendor", port, dialect, delay), port)
        self._temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self._temporary.name)
        self.trust: Mapping[str, str] = {}
        self._context: ssl.SSLContext | None = None
        if tls:
            file = self.folder / "stub.pem"
            file.write_text("".join(self_signed()))
            self._argv += ["--certificate", str(file)]
            self._context = ssl.create_default_context(cafile=file)
            self.trust = {"SSL_CERT_FILE": str(file)}

    def _wait(self) -> None:
        for _ in range(200):
            try:
                self.counts()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise Ended("the vendor does not answer")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        self._temporary.cleanup()

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://{self.target}"

    def counts(self) -> dict[str, int]:
        """Requests, logins and connections so far."""
        return self._ask("counts")

    def delays(self, delay: float, login_delay: float) -> None:
        """From now on it takes so many seconds for a request, and for a login."""
        self._ask(f"delays?{delay},{login_delay}")

    def _ask(self, what: str) -> dict[str, int]:
        url = f"{self.url}/{what}"
        with urllib.request.urlopen(url, timeout=10, context=self._context) as reply:
            told: dict[str, int] = json.load(reply)
        return told


class Client:
    """The process that makes the calls."""

    def __enter__(self) -> Client:
        self._process = subprocess.Popen(
            _module("load"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
        )
        return self

    def order(self, do: str, server: Process, task_type: str, **how: object) -> dict[str, Any]:
        """Have it done; what was measured."""
        order = {"do": do, "target": server.target, "task_type": task_type, **how}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise Ended(f"the client failed at {order}; its error is above")
        measured: dict[str, Any] = json.loads(line)
        return measured

    def __exit__(self, *raised: object) -> None:
        self._process.communicate()


def collector() -> Process:
    port = free_port()
    return Process("collector", _module("collector", port), port)


def spans(of: Process) -> int:
    """How many spans a collector has got."""
    with grpc.insecure_channel(of.target) as channel:
        count: Any = channel.unary_unary("/bench.Collector/Count")
        return int(count(b"", timeout=10))


def bare() -> Process:
    port = free_port()
    return Process("bare", _module("bare", port), port)


def flytekit(
    env: Mapping[str, str] | None = None,
    modules: str = "bench_connectors",
    python: Path = FLYTEKIT,
) -> Process:
    """flytekit's connector service with modules of ours beside its own connectors."""
    port = free_port()
    code = "from flytekit.clis.sdk_in_container.pyflyte import main; main()"
    argv = [str(python), "-c", code, "serve", "connector", "--port", str(port)]
    argv += ["--prometheus_port", str(free_port()), "--modules", modules]
    return Process("flytekit", argv, port, {"PYTHONPATH": str(HERE / "agents"), **(env or {})})


def ours(
    stack: ExitStack,
    traces: Process,
    env: Mapping[str, str] | None = None,
    plugin: str = "bench",
    name: str = "flyteagents",
    uvloop: bool = False,
) -> Process:
    """Our server, sending its spans and metrics to a collector."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    metadata = folder / "flyteagents_bench-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: flyteagents-bench\nVersion: 1\n"
    )
    (metadata / "entry_points.txt").write_text("[flyteagents]\nbench = bench_agents\n")
    if not uvloop:  # the server takes it where it can be imported
        (folder / "uvloop.py").write_text("raise ImportError\n")
    port = free_port()
    argv = [sys.executable, "-m", "flyteagents", "serve", "--port", str(port)]
    return Process(
        name,
        argv,
        port,
        {
            "PYTHONPATH": os.pathsep.join([str(folder), str(HERE / "agents")]),
            "FLYTEAGENTS_PLUGINS": plugin,
            "FLYTEAGENTS_HOST": "127.0.0.1",
            "FLYTEAGENTS_METRICS_PORT": str(free_port()),
            "FLYTEAGENTS_DRAIN_DELAY": "0",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{traces.target}",
            **(env or {}),
        },
    )


def _module(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", f"tests.bench.{name}", *map(str, arguments)]
