"""Which hosts get credentials."""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import ipaddress
import re
import socket
from collections.abc import Sequence

from flyteagents._errors import Forbidden

_PORT = re.compile(r"^(\[.*\]|[^:]*):\d+$")


def check_host(host: str, patterns: Sequence[str]) -> None:
    """Raises Forbidden for a host that neither the settings nor the agent name: it came out of
    a task or an envelope, and would be handed the operator's credentials. Ports do not matter.
    This machine and its metadata service must be named; no wildcard means them."""
    # No name is longer (RFC 1035, 2.3.4), and what is looked at is remembered.
    if len(host) > 253 or not _allowed(host, tuple(patterns)):
        raise Forbidden(
            f"the host {host[:100]!r} is not one that this service talks to; "
            "its operator can allow it with FLYTEAGENTS_ALLOW_HOSTS"
        )


@functools.lru_cache(1000)  # hosts are few and requests are many
def _allowed(host: str, patterns: tuple[str, ...]) -> bool:
    name = _one_form(host)
    bare = [_one_form(_PORT.sub(r"\1", pattern).strip("[]")) for pattern in patterns]
    if name in bare:
        return True
    return not _near(name) and any(fnmatch.fnmatchcase(name, pattern) for pattern in bare)


def _one_form(host: str) -> str:
    """IPv6 addresses have many spellings: a URL's and the operator's may be two of them."""
    host = host.lower().rstrip(".")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def _near(host: str) -> bool:
    with contextlib.suppress(OSError):
        host = socket.inet_ntoa(socket.inet_aton(host))  # "127.1", "0x7f000001"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # RFC 6761, 6.3: names below it are this machine too.
        return host == "localhost" or host.endswith(".localhost")
    # ::ffff:127.0.0.1 reaches 127.0.0.1. Clouds' metadata services are link-local
    # (169.254.169.254), and give out the machine's own credentials.
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_link_local or address.is_unspecified
