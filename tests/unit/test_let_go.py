"""What a call was given is let go of with the call, and not by Python's next collection: that may
be thousands of calls away, and a task may have megabytes."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress

import pytest
from tests.unit.kernel_setup import RUNNING, Numbered, Scripted, Setup, until, within
from tests.unit.vendor_setup import Setup as VendorSetup

from flyteagents import AgentError, Call, Forbidden, InvalidTask, Status, Throttled, Unavailable
from flyteagents._kernel.call import ask
from flyteagents._kernel.service import Service
from flyteagents._telemetry.tracing import Rpc
from flyteagents._vendor.budget import Budget
from flyteagents.testing import Response


@pytest.fixture(autouse=True)
def no_collections() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


class Large(dict[str, str]):
    """Stands for megabytes."""


@pytest.mark.parametrize(
    "error", [InvalidTask("no"), Forbidden("no"), Throttled("not now"), Unavailable("not now")]
)
async def test_a_task_whose_create_has_failed(setup: Setup, error: AgentError) -> None:
    setup.agent.script["create"] = [error]
    large = Large()
    request, kept = setup.request(inputs={"large": large}), weakref.ref(large)
    del large
    rpc = Rpc(setup.telemetry.tracing, "service/CreateTask")
    await Service(setup.kernel).create(request, within(0.2), rpc)
    await until(lambda: not setup.kernel.detached)
    setup.agent.about.clear()
    del request, rpc
    assert kept() is None


async def test_a_call_that_has_used_http() -> None:
    class Asks(Scripted):
        async def get(self, job: Numbered, call: Call) -> Status:
            assert call.http is call.http
            return RUNNING

    setup = Setup(cls=Asks)
    call = setup.opened().call("get", Budget(time.monotonic() + 60))
    kept = weakref.ref(call)
    await ask(call)
    del call
    assert kept() is None


@pytest.mark.parametrize("status", [200, 403, 503])
@pytest.mark.parametrize("seconds", [60.0, 0.1])
async def test_a_body_however_its_request_has_ended(status: int, seconds: float) -> None:
    async with VendorSetup.made() as setup:
        await setup.http().get("/x")  # what is made once
        setup.vendor.script("POST", "/api/x", Response(status))
        body = Large()
        kept = weakref.ref(body)

        async def asks(body: Large) -> None:
            with suppress(AgentError):
                await setup.http(seconds).post("/x", json=body)

        # A task of its own, as each call has: its context has the last request.
        asking = asyncio.create_task(asks(body))
        del body
        await asking
        del asking
        assert kept() is None
