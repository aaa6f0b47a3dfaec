"""One agent being served: its settings, its connections, its limits, its place to run."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from flyteagents._agent import Agent, AgentBase
from flyteagents._environment import PREFIX
from flyteagents._kernel.admission import Admission, LeftBehind
from flyteagents._kernel.codec import Codec
from flyteagents._kernel.lane import Lane
from flyteagents._kernel.offered import Offered
from flyteagents._kernel.plugins import Plugin
from flyteagents._kernel.settings import KernelSettings, prefix_of
from flyteagents._kernel.stores import Stores
from flyteagents._settings import Settings
from flyteagents._telemetry.providers import Telemetry
from flyteagents._vendor.http import VendorClient
from flyteagents._vendor.secrets import Secrets


@dataclass(frozen=True)
class Place:
    """The author's object, its connections, and where it runs: they belong together."""

    agent: Any
    client: VendorClient
    lane: Lane

    async def close(self) -> None:
        # In the lane, and all at once: what the agent and its connections hold belongs to its loop.
        await self.lane.close(self._end)

    async def _end(self) -> None:
        try:
            await self.agent.close()
        finally:
            await self.client.aclose()


class ServedAgent:
    """Serves one agent: `agent` is the author's object, `call.ask` the way to its methods.
    Without `telemetry` nothing is measured.

    task_type: the first of those it serves; names it in metrics, logs and errors.
    codec: reads what a job wrote beside its outputs.
    """

    def __init__(
        self,
        plugin: Plugin,
        offered: Offered,
        settings: KernelSettings,
        telemetry: Telemetry | None = None,
        codec: Codec | None = None,
    ) -> None:
        self.plugin = plugin
        self.offered = offered
        self.name = offered.name
        self.task_type = offered.task_types[0]
        self.idempotency = offered.idempotency
        self.is_sync = offered.is_sync
        self.linkless = getattr(offered.cls, "links", None) is Agent.links
        self.warns_of_keys_alone = offered.cls.warnings is AgentBase.warnings
        self.codec = codec
        self._cls = offered.cls
        self._telemetry = telemetry

        # What the operator wrote may get credentials; what a task names may not (rule 15).
        of_settings = _hosts_in(offered.settings)
        self._vendor_hosts = [*self._cls.hosts, *settings.allow_hosts, *of_settings]
        # As much again as for polls is for cancels, which have no limit of their own.
        self._connections = settings.max_creates + 2 * settings.max_polls
        self.place = self._make(isolated=False)
        self._left: list[Place] = []

        if telemetry is not None:
            for task_type in offered.task_types:
                telemetry.metrics.serve(task_type, synchronous=self.is_sync)
        self.secrets = Secrets(settings.secrets_dir)
        self.threads = ThreadPoolExecutor(settings.max_threads, f"flyteagents-{self.task_type}")
        self.stores = Stores(self.task_type)
        self.creates = Admission(settings.max_creates)
        self.polls = Admission(settings.max_polls)
        self.left_behind = LeftBehind(self.task_type)

    @property
    def agent(self) -> Any:
        """The author's object that calls begin with now."""
        return self.place.agent

    def _make(self, *, isolated: bool) -> Place:
        agent: Any = self._cls()
        agent.settings = self.offered.settings
        observe = None
        if self._telemetry is not None:
            metrics = self._telemetry.metrics
            observe = functools.partial(metrics.vendor_request, self.task_type)
        client = VendorClient(
            self.task_type, self._vendor_hosts, max_connections=self._connections, observe=observe
        )
        return Place(agent, client, Lane(self.task_type, agent.open if isolated else None))

    async def open(self) -> None:
        await self.agent.open()

    async def warm(self) -> None:
        """Make ready what the first request would make: the import of the HTTP client alone is a
        third of a second, several where CPU is scarce, and of the 3 s that a create may have
        (flyteplugins .../webapi/agent/config.go:45)."""
        if self._cls.endpoint is not Agent.endpoint:
            await self.place.client.pool()

    async def close(self) -> None:
        for place in (*self._left, self.place):
            await place.close()
        # Python cannot end a thread from outside: one that hangs would hold up the whole stop.
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.stores.close()

    def span(self, operation: str) -> AbstractContextManager[object]:
        """The span of the agent's own work."""
        if self._telemetry is None:
            return nullcontext()
        return self._telemetry.tracing.operation(self.task_type, operation)

    def words(self, message: str, code: str | None) -> str:
        """A text for the user, with the vendor's error code as `[<PLUGIN>_<code>]` before it."""
        if not code:
            return message
        prefix = prefix_of(self.plugin.name).removeprefix(PREFIX)
        if message.startswith(f"[{prefix}"):
            return message
        if not code.upper().startswith(prefix):
            code = f"{prefix}{code}"
        return f"[{code}] {message}"

    def code_in(self, text: str) -> str:
        """The vendor's code out of what `words` made; "" where it has none."""
        prefix = "[" + prefix_of(self.plugin.name).removeprefix(PREFIX)
        return text.removeprefix(prefix).partition("]")[0] if text.startswith(prefix) else ""

    def isolate(self) -> None:
        """Move the agent to a loop of its own, since it blocks the one it is on. What it and
        its connections hold belongs to the old loop, so it begins anew; calls under way end
        where they are, and what they use is closed with the rest."""
        if not self.place.lane.isolated:
            made = self._make(isolated=True)
            self._left.append(self.place)
            # In one step: calls begin while the watch's thread is here.
            self.place = made

    def owns(self, module: str) -> bool:
        """Whether a module is of the package that the agent's class is in."""
        return module.split(".")[0] == self._cls.__module__.split(".")[0]


def _hosts_in(settings: Settings) -> Iterator[str]:
    """The hosts of the addresses that the operator gave."""
    for value in settings.model_dump(mode="json").values():
        if isinstance(value, str) and "://" in value and (host := urlsplit(value).hostname):
            yield host
