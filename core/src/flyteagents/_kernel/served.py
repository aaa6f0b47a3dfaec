"""One agent being served: its settings, its connections, its limits, its place to run."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from urllib.parse import urlsplit

from flyteagents._agent import Agent, AgentBase
from flyteagents._kernel.admission import Admission
from flyteagents._kernel.lane import Lane
from flyteagents._kernel.plugins import Models, Plugin
from flyteagents._kernel.settings import KernelSettings
from flyteagents._settings import Settings
from flyteagents._telemetry.providers import Telemetry
from flyteagents._vendor.http import VendorClient
from flyteagents._vendor.secrets import Secrets


class ServedAgent:
    """Serves one agent: `agent` is the author's object, `call.ask` the way to its methods.
    Without `telemetry` nothing is measured."""

    def __init__(
        self,
        plugin: Plugin,
        cls: type[AgentBase[Any, Any]],
        settings: KernelSettings,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.plugin = plugin
        self.task_type = cls.task_type
        self.name = cls.name or cls.task_type
        self.models: Models = plugin.models[cls.task_type]
        self.settings: Settings = plugin.settings[self.models.settings]
        self._cls = cls
        self._telemetry = telemetry

        self._vendor_hosts = [*cls.hosts, *settings.allow_hosts, *_hosts_in(self.settings)]
        # As much again as for polls is for cancels, which have no limit of their own.
        self._connections = settings.max_creates + 2 * settings.max_polls
        self.agent, self.client = self._make()

        self.is_sync = not issubclass(cls, Agent)
        if telemetry is not None:
            telemetry.metrics.serve(self.task_type, synchronous=self.is_sync)
        self.idempotency: str = cls.idempotency if issubclass(cls, Agent) else "none"
        self.secrets = Secrets(settings.secrets_dir)
        self.threads = ThreadPoolExecutor(settings.max_threads, f"flyteagents-{cls.task_type}")
        self.creates = Admission(settings.max_creates)
        self.polls = Admission(settings.max_polls)
        self.lane = Lane(cls.task_type)

    def _make(self) -> tuple[Any, VendorClient]:
        agent: Any = self._cls()
        agent.settings = self.settings
        observe = None
        if self._telemetry is not None:
            metrics = self._telemetry.metrics
            observe = functools.partial(metrics.vendor_request, self.task_type)
        client = VendorClient(
            self.task_type, self._vendor_hosts, max_connections=self._connections, observe=observe
        )
        return agent, client

    async def open(self) -> None:
        await self.agent.open()

    async def close(self) -> None:
        await self.lane.close()
        await self.agent.close()
        await self.client.aclose()
        self.threads.shutdown(wait=False, cancel_futures=True)

    def span(self, operation: str) -> AbstractContextManager[object]:
        """The span of the agent's own work."""
        if self._telemetry is None:
            return nullcontext()
        return self._telemetry.tracing.operation(self.task_type, operation)

    def isolate(self) -> None:
        """Move the agent to a loop of its own, since it blocks the one it is on. What it and
        its connections hold belongs to the old loop, so it begins anew; calls under way end
        where they are."""
        if not self.lane.isolated:
            self.agent, self.client = self._make()
            self.lane.isolate(self.agent.open)

    def owns(self, module: str) -> bool:
        """Whether a module is of the package that the agent's class is in."""
        return module.split(".")[0] == self._cls.__module__.split(".")[0]


def _hosts_in(settings: Settings) -> Iterator[str]:
    """The hosts of the addresses that the operator gave."""
    for value in settings.model_dump(mode="json").values():
        if isinstance(value, str) and "://" in value and (host := urlsplit(value).hostname):
            yield host
