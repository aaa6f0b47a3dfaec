"""A call for the tests of the vendor kit: real HTTP to a fake vendor, and no agent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from flyteagents import (
    Endpoint,
    ErrorDocument,
    Fingerprint,
    Http,
    Identity,
    Key,
    Reply,
    Status,
    Type,
)
from flyteagents._vendor.budget import Budget
from flyteagents._vendor.http import VendorClient

T = TypeVar("T")


@dataclass(frozen=True)
class KitCall:
    """`fresh` and the seconds of the budget are what the kit looks at."""

    client: VendorClient = field(default_factory=lambda: VendorClient("kit", ["127.0.0.1"]))
    fresh: bool = False
    seconds: float = 60.0
    operation: str = "create"
    identity: Identity = field(default_factory=Identity)
    output_prefix: str = ""
    declared: Mapping[str, Type] = field(default_factory=dict)
    configs: Mapping[str, str] = field(default_factory=dict)
    task_type: str = "kit"
    key: Key = Key("0" * 40)  # noqa: RUF009 # frozen
    fingerprint: Fingerprint | None = None
    settling: bool = False
    adopted: bool = False
    trouble: str = ""

    @property
    def remaining(self) -> float:
        return self.seconds

    @property
    def http(self) -> Http:
        return self.client.bind(_no_endpoint, Budget(time.monotonic() + self.seconds))

    def unchanged(self, reply: Reply) -> Status | None:
        return None

    async def secret(self, name: str) -> str:
        return f"the secret {name}"

    async def find_secret(self, name: str) -> str | None:
        return None

    async def sent_secret(self, name: str) -> str | None:
        return None

    async def blocking(self, function: Callable[..., T], *args: object) -> T:
        return function(*args)

    async def read_error(self, prefix: str = "") -> ErrorDocument | None:
        return None

    async def read_outputs(self, prefix: str = "") -> Mapping[str, object] | None:
        return None


async def _no_endpoint(fresh: bool) -> Endpoint:
    raise AssertionError("the agent's own endpoint was asked")
