"""`flyteagents probe`: whether the server beside it is healthy.

Kubernetes' own gRPC probe speaks no TLS, so a server with `FLYTEAGENTS_TLS_CERT` would never be
ready by it. This one reads the same settings as the server, so there is nothing to configure. It
imports no more than gRPC and its health messages, since it runs every few seconds.
"""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path
from typing import NoReturn

import click

from flyteagents._kernel.settings import BadSettings, KernelSettings, read_settings

CONFIG_ERROR, UNAVAILABLE = 78, 69
"""As `serve` says them."""
_EVERYWHERE = ("[::]", "0.0.0.0", "")  # noqa: S104 # what is listened on, not what is asked


@click.command("probe")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="The server's port; wins over FLYTEAGENTS_PORT.",
)
@click.option(
    "--service",
    default="",
    help="What to ask for: the whole server, or flyteagents.plugin.NAME.",
)
@click.option(
    "--timeout",
    default=3.0,
    show_default=True,
    type=click.FloatRange(0.1, 60),
    help="Seconds to wait for an answer.",
)
def command(port: int | None, service: str, timeout: float) -> None:
    """Ask the server on this machine for its health; for a probe of Kubernetes' that works with
    TLS. Reads the server's own settings.

    Exits with 0 when it serves, with 69 when it does not or cannot be reached, and with 78 when
    a setting is bad.

    \b
    Examples:
      flyteagents probe
      flyteagents probe --service flyteagents.plugin.bigquery
    """
    try:
        settings = read_settings(**({} if port is None else {"port": port}))
    except BadSettings as error:
        _leave(CONFIG_ERROR, str(error))
    try:
        state = _health(settings, service, timeout)
    except OSError as error:  # also what ssl raises
        address = f"{_host(settings)}:{settings.port}"
        _leave(UNAVAILABLE, f"the server on {address} cannot be reached: {error}")
    _leave(0 if state == "SERVING" else UNAVAILABLE, state)


def _health(settings: KernelSettings, service: str, timeout: float) -> str:
    """The name of the server's state. Raises OSError when there is no answer."""
    # gRPC's C core reads only once how much to say, and its own lines help nobody here.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    import grpc
    from grpc_health.v1 import health_pb2

    address = f"{_host(settings)}:{settings.port}"
    if settings.tls_cert is None:
        channel = grpc.insecure_channel(address)
    else:
        options = (("grpc.ssl_target_name_override", _name(settings, settings.tls_cert, timeout)),)
        trusted = grpc.ssl_channel_credentials(settings.tls_cert.read_bytes())
        channel = grpc.secure_channel(address, trusted, options=options)
    with channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = check(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return f"NOT_FOUND: the server knows no service {service!r}"
            raise ConnectionError(error.details()) from None
    state: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return state


def _name(settings: KernelSettings, certificate: Path, timeout: float) -> str:
    """A name that the server's certificate is good for: it is asked for on this machine, where no
    certificate has its name."""
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the file need not have the root
    context.set_alpn_protocols(["h2"])
    host = _host(settings).strip("[]")
    with (
        socket.create_connection((host, settings.port), timeout) as plain,
        context.wrap_socket(plain) as secured,
    ):
        shown = secured.getpeercert() or {}
    names = [str(pair[1]) for pair in shown.get("subjectAltName", ())]
    # A wildcard is good for any name in its place.
    return (names[0] if names else host).replace("*", "probe")


def _host(settings: KernelSettings) -> str:
    return "localhost" if settings.host in _EVERYWHERE else settings.host


def _leave(code: int, text: str) -> NoReturn:
    click.echo(f"flyteagents: {text}" if code else text, err=code != 0)
    raise SystemExit(code)
