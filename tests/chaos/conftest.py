"""What the attacks share: servers that end with the test, and job services."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from tests.chaos.servers import Server

from flyteagents.testing import JobService

MakeServer = Callable[..., Awaitable[Server]]


@pytest.fixture
async def vendor() -> AsyncIterator[JobService]:
    async with JobService() as service:
        yield service


@pytest.fixture
async def lookup_vendor() -> AsyncIterator[JobService]:
    async with JobService() as service:
        yield service


@pytest.fixture
async def make_server(vendor: JobService, lookup_vendor: JobService) -> AsyncIterator[MakeServer]:
    """Starts servers; keyword arguments are environment variables."""
    servers: list[Server] = []

    async def make(load: str = "jobs,chaos", **env: str) -> Server:
        urls = {
            "FLYTEAGENTS_JOBS_URL": vendor.url,
            "FLYTEAGENTS_JOBS_OTHER_URL": lookup_vendor.url,
        }
        server = Server(load, {**urls, **env})
        servers.append(server)
        await server.start()
        return server

    yield make
    for server in servers:
        await server.close()
