"""A fake vendor and the HTTP client under test, for the tests of vendor HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from flyteagents import Endpoint, Http
from flyteagents._vendor.budget import Budget
from flyteagents._vendor.http import VendorClient
from flyteagents.testing import (
    FakeVendor,
    Request,
    Response,
)

SECRET = "c4nary-credential"


@dataclass
class Setup:
    """A vendor that answers `reply`, and the client under test."""

    vendor: FakeVendor
    client: VendorClient = field(init=False)
    seen: list[int | None] = field(default_factory=list)
    noticed: asyncio.Event = field(default_factory=asyncio.Event)
    tokens: list[str] = field(default_factory=lambda: [SECRET])
    asked: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = VendorClient("acme", ["127.0.0.1"], max_connections=4, observe=self.observe)

    def observe(self, status: int | None, seconds: float) -> None:
        assert 0 < seconds < 60
        self.seen.append(status)
        self.noticed.set()

    async def endpoint(self, fresh: bool) -> Endpoint:
        self.asked.append(fresh)
        return Endpoint(f"{self.vendor.url}/api", bearer=self.tokens[fresh and -1])

    def http(self, seconds: float = 60.0, *, asks: bool = False, **budget: Any) -> Http:
        within = Budget(time.monotonic() + seconds, **budget)
        return self.client.bind(self.endpoint, within, asks=asks)

    @staticmethod
    @contextlib.asynccontextmanager
    async def made() -> AsyncIterator[Setup]:
        async with FakeVendor(answer) as vendor:
            setup = Setup(vendor)
            yield setup
            await setup.client.aclose()


async def answer(request: Request) -> Response:
    return Response(200, {"id": "j", "n": 1})
