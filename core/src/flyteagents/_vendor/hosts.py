"""Which hosts get credentials."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
import socket
from collections.abc import Iterable

from flyteagents._errors import Forbidden

_PORT = re.compile(r"^(\[.*\]|[^:]*):\d+$")


class Hosts:
    """Host patterns ("*.vendor.example"); ports are ignored. This machine and its network's
    metadata service match by name only: no wildcard means them."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = {_PORT.sub(r"\1", pattern).strip("[]").lower() for pattern in patterns}

    def check(self, host: str) -> None:
        """Raises Forbidden unless a pattern allows the host."""
        name = host.lower().rstrip(".")
        if name in self._patterns:
            return
        if _near(name) or not any(fnmatch.fnmatchcase(name, p) for p in self._patterns):
            raise Forbidden(
                f"{host} is not a host that gets this vendor's credentials; "
                "FLYTEAGENTS_ALLOW_HOSTS can allow it"
            )


def _near(host: str) -> bool:
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(host))  # "127.1", "0x7f000001"
        except OSError:
            return host == "localhost" or host.endswith(".localhost")
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_link_local or address.is_unspecified
