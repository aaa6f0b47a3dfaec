"""What the attacks share: the plugins, servers that end with the test, and job services."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.chaos.servers import Server, install

from flyteagents.testing import JobService

MakeServer = Callable[..., Awaitable[Server]]


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugins")
    install(folder)
    return folder


@pytest.fixture
async def vendor() -> AsyncIterator[JobService]:
    async with JobService() as service:
        yield service


@pytest.fixture
async def lookup_vendor() -> AsyncIterator[JobService]:
    async with JobService() as service:
        yield service


@pytest.fixture
async def make_server(
    plugins: Path, vendor: JobService, lookup_vendor: JobService
) -> AsyncIterator[MakeServer]:
    """Starts servers; keyword arguments are environment variables."""
    servers: list[Server] = []

    async def make(load: str = "chaos", **env: str) -> Server:
        urls = {
            "FLYTEAGENTS_CHAOS_URL": vendor.url,
            "FLYTEAGENTS_CHAOS_LOOKUP_URL": lookup_vendor.url,
        }
        server = Server(load, {**urls, **env}, plugins)
        servers.append(server)
        await server.start()
        return server

    yield make
    for server in servers:
        await server.close()
