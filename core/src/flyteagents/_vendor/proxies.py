"""Which proxy a host is asked through, by HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY.

Our own, because an HTTP library that is told to trust the environment reads it, and the user's
netrc, for every request; and because clusters write networks into NO_PROXY (10.0.0.0/8), which
few libraries read.
"""

from __future__ import annotations

import ipaddress
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass

import yarl

from flyteagents._errors import Unavailable
from flyteagents._redact import remember


@dataclass(frozen=True)
class Proxy:
    """Its URL may hold a password; as a text it is host and port only."""

    url: yarl.URL

    def __str__(self) -> str:
        return self.url.host_port_subcomponent or ""


def proxy_for(scheme: str, host: str, port: int) -> Proxy | None:
    """None where the host is asked directly. Raises Unavailable for a proxy that cannot be used,
    which no job should fail for."""
    # Not the variables alone: on macOS and Windows the system's settings count too.
    proxies = urllib.request.getproxies()
    # urllib names them by what stands before "_proxy": NO_PROXY is "no".
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or _direct(host, port, proxies.get("no", "").lower().split(",")):
        return None
    try:
        found = yarl.URL(proxy if "://" in proxy else f"http://{proxy}")
    except ValueError:
        found = yarl.URL()
    if found.scheme not in ("http", "https") or not found.host:
        raise Unavailable(
            f"the proxy for {host} cannot be used; set {scheme.upper()}_PROXY to an http or "
            "https URL (SOCKS is not spoken), or add the host to NO_PROXY"
        )
    remember(found.password or "")
    return Proxy(found)


def _direct(host: str, port: int, entries: Iterable[str]) -> bool:
    """Whether NO_PROXY names the host, a domain or a network that it is in, or everything."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None

    for entry in filter(None, map(str.strip, entries)):
        if entry == "*":
            return True
        if address is not None and _holds(entry.strip("[]"), address):
            return True
        name, _, its_port = entry.rpartition(":") if ":" in entry else (entry, "", "")
        if its_port and its_port != str(port):
            continue
        domain = name.removeprefix("*").removeprefix(".")
        if host == domain or host.endswith(f".{domain}"):
            return True
    return False


def _holds(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        # Not strict: 10.1.2.3/8, with more than the network's own bits, is written too.
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
