"""A client with the settings that the chart prints for Flyte's."""

from __future__ import annotations

import json
from typing import cast

import grpc

from flyteagents._cli.routing import Dialect, service_config
from flyteagents.testing import Caller, Generation

SCALE = 1 / 20
"""Of Flyte's and the chart's seconds: a client asks a name again after 30 s at the soonest."""


class Flyte(Caller):
    """Calls as Flyte's client makes them: one target, round robin over its addresses, waiting for
    a server and asking again where the printed configuration says so.

    again: whether calls that a stopping server cancels are made again.
    """

    def __init__(self, target: str, generation: Generation = 1, *, again: bool = True) -> None:
        # None leaves it to the channel's settings, as Flyte's client does.
        waits = cast(bool, None)
        deadlines = {"CreateTask": 60.0, "DeleteTask": 60.0, "GetTask": 10.0}
        super().__init__(target, generation=generation, deadlines=deadlines, wait_for_ready=waits)
        self._again = again

    def _channel(self, endpoint: str) -> grpc.aio.Channel:
        config = json.dumps(service_config(Dialect.of("flyte2" if self.generation == 2 else None)))
        if not self._again:
            config = config.replace("retryPolicy", "noRetryPolicy")
        options = (
            ("grpc.service_config", config),
            ("grpc.dns_min_time_between_resolutions_ms", int(30_000 * SCALE)),
            ("grpc.use_local_subchannel_pool", 1),
        )
        return grpc.aio.insecure_channel(endpoint, options=options)
