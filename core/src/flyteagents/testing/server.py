"""A real agent server with a test's plugins and settings, and none of the tester's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from flyteagents._client.process import ServerProcess

_QUIET = {
    "FLYTEAGENTS_HOST": "127.0.0.1",
    # Several servers run side by side, and a port is there once.
    "FLYTEAGENTS_METRICS_PORT": "0",
    "FLYTEAGENTS_DRAIN_DELAY": "0",
}


class RealServer(ServerProcess):
    """Starts `flyteagents serve` on a free port and stops it at the end of the `with` block.

    plugins: entry-point names to load; None loads all that are installed.
    env: further variables. Other variables `FLYTEAGENTS_*` and `OTEL_*` do not reach the server.
    python_path: folders, or wheels, with agents that are not installed; each has a `*.dist-info`.
    python: the interpreter of another environment, if it is to run there.

    ```python
    with RealServer(plugins=["acme"], env={"FLYTEAGENTS_ACME_URL": vendor.url}) as server:
        channel = grpc.insecure_channel(server.endpoint)
        server.kill()
        server.restart()          # the same port, and nothing remembered
    ```
    In async code enter it with `async with`, and call `restart` and `terminate` by
    `asyncio.to_thread`, so that a fake vendor on the same loop goes on meanwhile. The server also
    ends when this process does, however that ends.
    """

    def __init__(
        self,
        plugins: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        python_path: Sequence[Path | str] = (),
        *,
        port: int | None = None,
        ready_within: float = 60.0,
        python: str | Path = sys.executable,
    ) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLYTEAGENTS_", "OTEL_"))}
        paths = [*map(str, python_path), *filter(None, [kept.get("PYTHONPATH")])]
        loaded = {} if plugins is None else {"FLYTEAGENTS_PLUGINS": ",".join(plugins)}
        super().__init__(
            {**kept, "PYTHONPATH": os.pathsep.join(paths), **_QUIET, **loaded, **(env or {})},
            port=port,
            ready_within=ready_within,
            python=python,
        )
