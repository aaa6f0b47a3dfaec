"""What an agent holds is closed at the end, wherever it ran and whatever its `close` does."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from aiohttp import ClientSession
from tests.unit.kernel_setup import RUNNING, Numbered, Scripted, Setup

from flyteagents import Call, Endpoint, Status
from flyteagents._kernel.call import ask
from flyteagents._kernel.served import Place
from flyteagents._kernel.settings import KernelSettings
from flyteagents._vendor.budget import Budget
from flyteagents.testing import FakeVendor, Request, Response


class Asking(Scripted):
    """Makes a request in each poll."""

    url = ""

    async def endpoint(self, of: object, call: Call) -> Endpoint:
        return Endpoint(self.url)

    async def get(self, job: Numbered, call: Call) -> Status:
        await call.http.get("/")
        return RUNNING


async def fine(request: Request) -> Response:
    return Response(200)


async def polled(setup: Setup) -> tuple[Place, ClientSession]:
    """Where a poll ran, and what its request went through."""
    call = setup.opened().call("get", Budget(time.monotonic() + 60))
    await ask(call)
    pool = await call.place.client.pool()
    session = pool.enter()
    await pool.leave()
    return call.place, session


async def test_an_agent_that_was_moved_closes_what_it_had_on_both_loops() -> None:
    closed: list[tuple[object, str]] = []

    async with FakeVendor(fine) as vendor:

        class Closing(Asking):
            url = vendor.url

            async def close(self) -> None:
                closed.append((self, threading.current_thread().name))

        setup = Setup(cls=Closing, settings=KernelSettings(allow_hosts=("127.0.0.1",)))
        before, here = await polled(setup)
        await asyncio.to_thread(setup.served.isolate)
        after, there = await polled(setup)
        await setup.served.close()

    assert (here.closed, there.closed) == (True, True)
    assert closed == [
        (before.agent, threading.current_thread().name),
        (after.agent, "flyteagents-lane-scripted"),
    ]


async def test_an_agent_whose_close_fails_leaves_no_connection_open() -> None:
    async with FakeVendor(fine) as vendor:

        class Failing(Asking):
            url = vendor.url

            async def close(self) -> None:
                raise ValueError("closed already")

        setup = Setup(cls=Failing, settings=KernelSettings(allow_hosts=("127.0.0.1",)))
        _, session = await polled(setup)
        with pytest.raises(ValueError, match="closed already"):
            await setup.served.close()
    assert session.closed
