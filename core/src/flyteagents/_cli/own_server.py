"""The server that `flyteagents run` starts for itself."""

from __future__ import annotations

import os
from collections.abc import Mapping

from flyteagents._cli.server_log import ServerLog
from flyteagents._client.process import ServerProcess

# Nobody else may call it, and nobody has to move away from it before it ends.
_PRIVATE = {
    "FLYTEAGENTS_HOST": "127.0.0.1",
    "FLYTEAGENTS_METRICS_PORT": "0",
    "FLYTEAGENTS_DRAIN_DELAY": "0",
    "FLYTEAGENTS_DRAIN_LIMIT": "10",
}
# With a certificate it would speak TLS, and its health is asked for without.
_LEFT_OUT = ("FLYTEAGENTS_PORT", "FLYTEAGENTS_TLS_CERT", "FLYTEAGENTS_TLS_KEY")


class OwnServer(ServerProcess):
    """`flyteagents serve` with this process's settings on a private port.

    env: variables besides. shown: it writes to our standard error; else its warnings and errors
    alone are shown there, and `rest` is the end of what was not.
    """

    def __init__(self, env: Mapping[str, str] | None = None, shown: bool = False) -> None:
        inherited = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
        form = {"FLYTEAGENTS_LOG_FORMAT": "text" if shown else "json"}
        super().__init__(
            {**inherited, **_PRIVATE, **form, **(env or {})},
            ready_within=30.0,
            shown=shown,
            # We may be killed, and then nobody else knows of the job.
            options=["--cancel-jobs"],
        )
        self._followed = None if shown else ServerLog(self._file)

    @property
    def rest(self) -> str:
        return self._followed.rest if self._followed is not None else ""

    @property
    def bug(self) -> str | None:
        """What an agent goes on raising in polls; None where its log goes past us."""
        return self._followed.bug if self._followed is not None else None

    def close(self) -> int:
        """Stop it, and show what is left of its log. The exit code."""
        self.stop()
        if self._followed is not None:
            # Between the two: the log is whole only now, and its file is closed next.
            self._followed.close()
        return super().close()
