"""The one hook that a plugin implements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pluggy

from flyteagents._agent import AgentBase

GROUP = "flyteagents"
API = 1
"""The version of the author's API. A plugin module states the one it was written for."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def register_agents() -> Sequence[type[AgentBase[Any, Any]]]:  # type: ignore[empty-body] # a spec
    """Return the plugin's agent classes; the kernel constructs them.

    The module that the entry point names has these lines:

    ```python
    API = 1

    @hookimpl
    def register_agents():
        return [AcmeAgent]
    ```
    """
