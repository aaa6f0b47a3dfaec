"""The gRPC server: one port for both Flyte generations, health and reflection."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from pathlib import Path

import grpc
from flyteidl.service import agent_pb2 as _flyte1_services  # noqa: F401 # for reflection
from flyteidl2.connector import service_pb2 as _flyte2_services  # noqa: F401 # for reflection
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from flyteagents._kernel.settings import KernelSettings
from flyteagents._wire.grpc_threads import give_way
from flyteagents._wire.methods import Methods

log = logging.getLogger("flyteagents")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
OPTIONS: tuple[tuple[str, int], ...] = (
    # gRPC shares a taken port silently otherwise, and both servers get half of the calls.
    ("grpc.so_reuseport", 0),
    # Flyte's client sends inputs of any size (no limit in webapi/agent/client.go:42-75); gRPC's own
    # limit of 4 MiB would refuse them with RESOURCE_EXHAUSTED.
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 4 << 20),
    # The Flyte 2 executor pings every 30 s; the default would cut it off for that.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Lets round-robin callers find replicas that were added.
    ("grpc.max_connection_age_ms", 300_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
)
NAMED = (0.0, 0.2, 2.0)
"""Seconds after the start in which gRPC's threads have their names: at once mostly, and later where
the machine is busy."""
LULL, LULL_WITHIN = 0.005, 1.0
"""Seconds without a new call before the server stops, and for how long to wait for them."""
LEFT = 0.5
"""Seconds in which the last answers go out."""


class PortTaken(Exception):
    """The address cannot be listened on."""


class Server:
    """The server and its health. `port` is the real one once it has started."""

    def __init__(self, settings: KernelSettings, methods: Methods) -> None:
        self._settings = settings
        self._methods = methods
        self._server = grpc.aio.server(options=OPTIONS)
        self._health = health.HealthServicer()
        self._names: set[str] = {"", HEALTH}
        self.port = 0
        for service, handlers in methods.handlers().items():
            self._names.add(service)
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, handlers),)
            )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        shown = sorted({*self._names, reflection.SERVICE_NAME} - {""})
        reflection.enable_server_reflection(shown, self._server)

    async def start(self, plugins: Iterable[str], broken: Iterable[str]) -> None:
        """Listen, and turn SERVING. Raises PortTaken."""
        settings = self._settings
        address = f"{settings.host}:{settings.port}"
        try:
            if settings.tls_cert and settings.tls_key:
                credentials = tls_credentials(settings.tls_cert, settings.tls_key)
                self.port = self._server.add_secure_port(address, credentials)
            else:
                self.port = self._server.add_insecure_port(address)
        # Older releases of grpcio answer 0 for a port that cannot be had, newer ones raise.
        except RuntimeError:
            self.port = 0
        if self.port == 0:
            raise PortTaken(
                f"cannot listen on {address}: the port is taken, or the address is not this "
                "machine's; set FLYTEAGENTS_PORT, FLYTEAGENTS_HOST or serve --port"
            )
        await self._server.start()
        for seconds in NAMED:
            asyncio.get_running_loop().call_later(seconds, give_way)
        self._names |= {f"flyteagents.plugin.{name}" for name in plugins}
        for name in self._names:
            await self._health.set(name, SERVING)
        # Under a name of its own: kubelet's probe asks for "", and a plugin that was skipped must
        # not take the whole pod out of service.
        for name in broken:
            await self._health.set(f"flyteagents.plugin.{name}", NOT_SERVING)

    async def leave(self) -> None:
        """Turn NOT_SERVING everywhere; calls are still taken."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace: float = 0.0) -> None:
        """Take no more calls and let those that run end, within `grace` seconds."""
        # gRPC cancels calls that have arrived and were not looked at yet, so stop in a lull.
        # Callers that are deaf to health send their calls until they are told by this very stop.
        begun, ends = -1, time.monotonic() + min(grace, LULL_WITHIN)
        while begun != self._methods.begun and time.monotonic() < ends:
            begun = self._methods.begun
            await asyncio.sleep(LULL)
        stopping = asyncio.create_task(self._server.stop(grace))
        # A call that arrives in the very moment may be taken by gRPC and handed to nobody; so may a
        # caller watch our health without an end. Cancelled, it is made again elsewhere; left alone,
        # it would wait for its deadline, and this stop for it.
        answered = False
        while not stopping.done():
            if answered and not self._methods.running:
                await self._server.stop(None)
            answered = not self._methods.running
            await asyncio.wait({stopping}, timeout=LEFT)
        await stopping


def tls_credentials(cert: Path, key: Path) -> grpc.ServerCredentials:
    """Credentials that follow their files; gRPC keeps the old ones while a new pair does not
    fit together. The files are looked at when a client connects, in a thread of gRPC's."""

    def read() -> tuple[bytes, bytes]:
        return key.read_bytes(), cert.read_bytes()

    pair = read()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal pair
        try:
            if pair == (pair := read()):
                return None
            return grpc.ssl_server_certificate_configuration([pair])
        except OSError as error:
            log.warning("TLS files cannot be read, going on with the old ones: %s", error.strerror)
            return None

    return grpc.dynamic_ssl_server_credentials(
        grpc.ssl_server_certificate_configuration([pair]),
        changed,  # type: ignore[arg-type] # None means "no change", which the stubs do not know
        # Flyte's client has no certificate to show (webapi/agent/client.go:45-55).
        require_client_authentication=False,
    )
