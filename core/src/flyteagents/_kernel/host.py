"""One agent being served: its settings, its vendor client, its limits, its place to run."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from flyteagents._agent import Agent, AgentBase
from flyteagents._call import Endpoint
from flyteagents._kernel.admission import Admission
from flyteagents._kernel.lane import Lane
from flyteagents._kernel.plugins import Models, Plugin
from flyteagents._kernel.requests import NO_CONNECTION, Connection
from flyteagents._kernel.settings import KernelSettings
from flyteagents._settings import Settings
from flyteagents._task import Identity
from flyteagents._types import Type
from flyteagents._vendor.budget import Budget
from flyteagents._vendor.http import Http, VendorClient
from flyteagents._vendor.secrets import Secrets

T = TypeVar("T")


@dataclass(frozen=True)
class KernelCall:
    """The `Call` that agents see."""

    host: AgentHost
    operation: str
    identity: Identity
    budget: Budget
    of: object = None
    output_prefix: str = ""
    declared: Mapping[str, Type] = field(default_factory=dict)
    connection: Connection = NO_CONNECTION
    fresh: bool = False
    agent: Any = field(init=False, repr=False)
    client: VendorClient = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Taken now: while the call is under way the host may get others, for another loop.
        object.__setattr__(self, "agent", self.host.agent)
        object.__setattr__(self, "client", self.host.client)

    @property
    def configs(self) -> Mapping[str, str]:
        return self.connection.configs

    @property
    def remaining(self) -> float:
        return max(self.budget.until - time.monotonic(), 0.0)

    @functools.cached_property
    def http(self) -> Http:
        return self.client.bind(self._endpoint, self.budget, self.agent.explain)

    async def _endpoint(self, fresh: bool) -> Endpoint:
        call = replace(self, fresh=True) if fresh else self
        endpoint: Endpoint = await self.agent.endpoint(self.of, call)
        return endpoint

    async def secret(self, name: str) -> str:
        return self.host.secrets.require(name, self.connection.secrets)

    async def find_secret(self, name: str) -> str | None:
        return self.host.secrets.find(name, self.connection.secrets)

    async def blocking(self, function: Callable[..., T], *args: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.host.threads, functools.partial(function, *args))


class AgentHost:
    """Serves one agent. Its methods run by `run`, on the server's loop or on one of their own."""

    def __init__(
        self,
        plugin: Plugin,
        cls: type[AgentBase[Any, Any]],
        kernel: KernelSettings,
        observe: Callable[[str, int | None, float], None] | None = None,
    ) -> None:
        self.plugin = plugin
        self.task_type = cls.task_type
        self.name = cls.name or cls.task_type
        self.models: Models = plugin.models[cls.task_type]
        self.settings: Settings = plugin.settings[self.models.settings]
        self._cls = cls
        self._observe = functools.partial(observe, cls.task_type) if observe else None
        self._hosts = [*cls.hosts, *kernel.allow_hosts, *_hosts_in(self.settings)]
        # As much again as for polls is for cancels, which have no limit of their own.
        self._connections = kernel.max_creates + 2 * kernel.max_polls
        self.agent, self.client = self._make()
        self.is_sync = not issubclass(cls, Agent)
        self.idempotency: str = "none" if not issubclass(cls, Agent) else cls.idempotency
        self.secrets = Secrets(kernel.secrets_dir)
        self.threads = ThreadPoolExecutor(kernel.max_threads, f"flyteagents-{cls.task_type}")
        self.creates = Admission(kernel.max_creates)
        self.polls = Admission(kernel.max_polls)
        self.lane = Lane(cls.task_type)

    def _make(self) -> tuple[Any, VendorClient]:
        agent: Any = self._cls()
        agent.settings = self.settings
        client = VendorClient(
            self.task_type, self._hosts, max_connections=self._connections, observe=self._observe
        )
        return agent, client

    async def open(self) -> None:
        await self.agent.open()

    async def close(self) -> None:
        await self.lane.close()
        await self.agent.close()
        await self.client.aclose()
        self.threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, method: Callable[..., Awaitable[T]], *args: object) -> T:
        """Call one of the agent's methods."""
        return await self.lane.run(method, *args)

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
    for value in settings.model_dump(mode="json").values():
        if isinstance(value, str) and "://" in value and (host := urlsplit(value).hostname):
            yield host
