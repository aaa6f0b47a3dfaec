"""The settings that a server starts with, or all that is wrong with them at once.

`serve` and `check` read them here: what one refuses, the other one must.
"""

from __future__ import annotations

import os
import socket

from flyteagents._environment import PREFIX
from flyteagents._kernel.plugins import discover
from flyteagents._kernel.settings import BadSettings, KernelSettings, read_settings
from flyteagents._kernel.tls import check_tls


def settings_to_serve(**given: object) -> KernelSettings:
    """The kernel's settings, once the files and addresses that they name were looked at. Raises
    BadSettings."""
    settings = read_settings(**given)
    check_tls(settings)
    if settings.port and settings.port == settings.metrics_port:
        raise BadSettings(
            f"the gRPC port and FLYTEAGENTS_METRICS_PORT are both {settings.port}; "
            "give the page another one, or 0 for no page"
        )
    _must_be_known("HOST", settings.host)
    if settings.metrics_port:
        _must_be_known("METRICS_HOST", settings.metrics_host)
    return settings


def _must_be_known(name: str, host: str) -> None:
    try:
        socket.getaddrinfo(host.strip("[]"), None)
    except (OSError, UnicodeError):
        text = f"{PREFIX}{name}={host}: no address, and no name of one that is known here"
        raise BadSettings(text) from None


def all_that_is_bad(error: Exception) -> str:
    """What is wrong with the settings, and with each plugin. An operator who mends one must not be
    told of the next by another start that fails."""
    chosen = os.environ.get(f"{PREFIX}PLUGINS")
    names = None if chosen is None else [each.strip() for each in chosen.split(",") if each.strip()]
    return "\n".join([str(error), *map(str, discover(names).broken)])
