"""Fixtures for pytest: `pytest_plugins = ["flyteagents.testing.fixtures"]`.

They need `flyteagents[testing]`. Everything that they start ends with its test. Import the
`Start...` types below `if TYPE_CHECKING:`, since pytest wants to import its plugins itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from flyteagents.testing.extra import needs_extra

with needs_extra(__name__):
    import pytest_asyncio

from flyteagents.testing.jobs import JobService
from flyteagents.testing.propeller import FakePropeller
from flyteagents.testing.server import RealServer
from flyteagents.testing.vendor import FakeVendor, Serve

StartVendor = Callable[[Serve], Awaitable[FakeVendor]]
StartServer = Callable[..., Awaitable[RealServer]]
StartPropeller = Callable[..., Awaitable[FakePropeller]]


@pytest_asyncio.fixture
async def job_service() -> AsyncIterator[JobService]:
    """The made-up vendor `JobService`, running."""
    async with JobService() as service:
        yield service


@pytest_asyncio.fixture
async def fake_vendor() -> AsyncIterator[StartVendor]:
    """`vendor = await fake_vendor(serve)` starts a `FakeVendor` of your own."""
    async with AsyncExitStack() as stack:

        async def start(serve: Serve) -> FakeVendor:
            return await stack.enter_async_context(FakeVendor(serve))

        yield start


@pytest_asyncio.fixture
async def real_server() -> AsyncIterator[StartServer]:
    """`server = await real_server(plugins=["acme"], env={...})` starts a `RealServer`."""
    servers: list[RealServer] = []

    async def start(**settings: Any) -> RealServer:
        server = RealServer(**settings)
        servers.append(server)
        await asyncio.to_thread(server.start)
        return server

    yield start
    for server in servers:
        await asyncio.to_thread(server.close)


@pytest_asyncio.fixture
async def fake_propeller() -> AsyncIterator[StartPropeller]:
    """`propeller = await fake_propeller(server.endpoint, generation=2)` makes a
    `FakePropeller`."""
    async with AsyncExitStack() as stack:

        async def start(*endpoints: str, **settings: Any) -> FakePropeller:
            return await stack.enter_async_context(FakePropeller(*endpoints, **settings))

        yield start
