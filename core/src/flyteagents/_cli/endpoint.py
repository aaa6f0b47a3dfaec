"""A server that runs already: the options that name it, for every command that can call one."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import grpc

PORT = 8000
"""Where `serve` listens by default."""
# https://github.com/grpc/grpc/blob/master/doc/naming.md
_RESOLVED = re.compile(r"(unix|unix-abstract|ipv4|ipv6|vsock|xds|passthrough):")
_ADDRESS = re.compile(r"(?P<host>\[[^\]]+\]|[^:/\[\]]+)(:(?P<port>[0-9]{1,5}))?")


class BadEndpoint(ValueError):
    """What is wrong with an endpoint; the text says what to write."""


@dataclass(frozen=True)
class Remote:
    """A server that runs already. ca: what it is trusted by, with TLS; None for public ones."""

    endpoint: str
    tls: bool = False
    ca: Path | None = None

    @property
    def credentials(self) -> grpc.ChannelCredentials | None:
        """For the channel; None without TLS."""
        import grpc

        if not self.tls:
            return None
        return grpc.ssl_channel_credentials(self.ca.read_bytes() if self.ca else None)


def port_of(endpoint: str) -> int | None:
    """The port of a gRPC target, None where it has none; 0 where that is not for us to say. Raises
    BadEndpoint."""
    if re.match("https?://", endpoint):
        raise BadEndpoint(f"{endpoint}: gRPC takes no URL; write host:port")
    if _RESOLVED.match(endpoint):
        return 0
    match = _ADDRESS.fullmatch(_address(endpoint))
    if match is None:
        raise BadEndpoint(f"{endpoint} is not of the form host:port")
    if match["port"] is None:
        return None
    port = int(match["port"])
    if not 0 < port < 65536:
        raise BadEndpoint(f"{endpoint}: a port is a number from 1 to 65535")
    return port


def remote_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --endpoint, --tls and --ca; the command gets them as `remote: Remote | None`."""

    @functools.wraps(command)
    def wrapped(*given: Any, endpoint: str | None, tls: bool, ca: Path | None, **rest: Any) -> Any:
        return command(*given, remote=_remote(endpoint, tls, ca), **rest)

    options = (
        click.option(
            "--endpoint",
            help=f"A server that runs already, host:port; else one is started. Port {PORT} where "
            "none is named.",
        ),
        click.option("--tls", is_flag=True, help="Talk TLS to --endpoint."),
        click.option(
            "--ca",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="PEM certificates of a private authority that signed --endpoint's; with --tls.",
        ),
    )
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


def _remote(endpoint: str | None, tls: bool, ca: Path | None) -> Remote | None:
    if endpoint is None:
        if tls or ca:
            raise click.UsageError(
                "--tls and --ca are for --endpoint; a server that is started for this has none"
            )
        return None
    if ca and not tls:
        raise click.UsageError("--ca goes with --tls")
    if ca and b"-----BEGIN CERTIFICATE-----" not in ca.read_bytes():
        raise click.BadParameter(f"{ca} has no certificate in PEM", param_hint="--ca")
    try:
        if port_of(endpoint) is None:
            endpoint = f"{endpoint}:{PORT}"
    except BadEndpoint as error:
        raise click.BadParameter(str(error), param_hint="--endpoint") from None
    return Remote(endpoint, tls, ca)


def _address(endpoint: str) -> str:
    """Host and port, without the scheme of a name server."""
    return re.sub(r"^dns:(//[^/]*/)?", "", endpoint)
