"""How many connections there are, who uses them and how long they are kept."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import FrameType

import pytest

from flyteagents import Endpoint, Http, Unavailable
from flyteagents._vendor.budget import Budget
from flyteagents._vendor.http import VendorClient
from flyteagents.testing import FakeVendor, Request, Response

PEAK = 24


class Gate(FakeVendor):
    """A vendor that answers while it is open."""

    def __init__(self) -> None:
        super().__init__(self._pass)
        self.open = asyncio.Event()
        self.open.set()

    async def _pass(self, _: Request) -> Response:
        await self.open.wait()
        return Response(200, {})

    def http(self, client: VendorClient, budget: Budget | None = None) -> Http:
        async def endpoint(_: bool) -> Endpoint:
            return Endpoint(self.url)

        return client.bind(endpoint, budget or Budget(time.monotonic() + 60))

    async def ask(self, client: VendorClient) -> None:
        await self.http(client).get("/")

    async def peak(self, client: VendorClient) -> None:
        """As many requests at once as the client has connections."""
        self.open.clear()
        asking = [asyncio.ensure_future(self.ask(client)) for _ in range(PEAK)]
        await self.until(count=PEAK)
        self.open.set()
        await asyncio.gather(*asking)

    async def left(self, count: int) -> None:
        """Wait until no more than `count` connections are left."""
        while self.open_connections > count:  # noqa: ASYNC110 # no event tells of it
            await asyncio.sleep(0.001)


@pytest.fixture
async def vendors() -> AsyncIterator[list[Gate]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Gate()) for _ in range(2)]


@pytest.fixture
async def client() -> AsyncIterator[VendorClient]:
    client = VendorClient("acme", ["127.0.0.1"], max_connections=PEAK)
    yield client
    await client.aclose()


async def test_the_connection_that_was_used_last_is_used_next(
    vendors: list[Gate], client: VendorClient
) -> None:
    vendor, _ = vendors
    await vendor.peak(client)
    for _ in range(PEAK):
        await vendor.ask(client)
    afterwards = list(vendor.requests)[PEAK:]
    assert len({request.connection for request in afterwards}) == 1
    assert vendor.connections == PEAK


async def test_no_request_looks_at_all_that_lie_idle(
    vendors: list[Gate], client: VendorClient
) -> None:
    vendor, _ = vendors
    await vendor.peak(client)
    looks = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal looks
        # What aiohttp asks of an idle connection before it takes it.
        looks += event == "call" and frame.f_code.co_name == "is_connected"

    sys.setprofile(count)
    try:
        await vendor.ask(client)
    finally:
        sys.setprofile(None)
    assert 0 < looks < PEAK


async def test_what_a_peak_needed_is_let_go(vendors: list[Gate], client: VendorClient) -> None:
    vendor, _ = vendors
    (await client.pool()).idle_limit = 0.03
    await vendor.peak(client)
    await asyncio.wait_for(vendor.left(0), 5)
    await vendor.ask(client)
    assert vendor.connections == PEAK + 1


async def test_what_is_used_is_kept(vendors: list[Gate], client: VendorClient) -> None:
    vendor, _ = vendors
    (await client.pool()).idle_limit = 5.0
    await vendor.peak(client)
    await vendor.peak(client)
    assert (vendor.connections, vendor.open_connections) == (PEAK, PEAK)


async def test_there_are_no_more_connections_than_allowed(
    vendors: list[Gate], client: VendorClient
) -> None:
    vendor, _ = vendors
    vendor.open.clear()
    asking = [asyncio.ensure_future(vendor.ask(client)) for _ in range(2 * PEAK)]
    await vendor.until(count=PEAK)
    await asyncio.sleep(0.01)
    assert vendor.connections == vendor.in_flight == PEAK
    vendor.open.set()
    await asyncio.gather(*asking)
    assert (vendor.connections, vendor.total) == (PEAK, 2 * PEAK)


async def test_a_call_to_another_host_costs_no_connection(
    vendors: list[Gate], client: VendorClient
) -> None:
    for _ in range(3):
        for vendor in vendors:
            await vendor.ask(client)
    assert [vendor.connections for vendor in vendors] == [1, 1]


async def test_what_is_in_use_when_the_client_is_closed_is_closed_afterwards(
    vendors: list[Gate], client: VendorClient
) -> None:
    vendor, _ = vendors
    await vendor.ask(client)
    vendor.open.clear()
    asking = asyncio.ensure_future(vendor.ask(client))
    await vendor.until(count=2)
    await client.aclose()
    vendor.open.set()
    await asking
    await asyncio.wait_for(vendor.left(0), 5)


async def test_who_waits_for_room_is_not_sent_when_its_caller_has_gone(
    vendors: list[Gate],
) -> None:
    vendor = vendors[0]
    client = VendorClient("acme", ["127.0.0.1"], 1)
    vendor.open.clear()
    first = asyncio.ensure_future(vendor.ask(client))
    await vendor.until(count=1)
    hasty = vendor.http(client, Budget(time.monotonic() + 60, limit=0.05, retries=False))
    with pytest.raises(Unavailable, match=r"all connections to .* are in use"):
        await hasty.get("/")
    budget = Budget(time.monotonic() + 60)
    second = asyncio.ensure_future(vendor.http(client, budget).post("/"))
    await asyncio.sleep(0.02)
    budget.closed = True
    vendor.open.set()
    await first
    with pytest.raises(Unavailable, match="no time left"):
        await second
    assert vendor.total == 1
    await client.aclose()
