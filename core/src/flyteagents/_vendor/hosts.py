"""Which hosts get credentials."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from flyteagents._errors import Forbidden


def check_host(host: str, patterns: Sequence[str]) -> None:
    """Raises Forbidden for a host that neither the settings nor the agent name: it came out of
    a task or an envelope, and would be handed the operator's credentials."""
    if not any(fnmatch.fnmatchcase(host.lower(), pattern.lower()) for pattern in patterns):
        raise Forbidden(
            f"the host {host[:100]!r} is not one that this service talks to; "
            "its operator can allow it with FLYTEAGENTS_ALLOW_HOSTS"
        )
