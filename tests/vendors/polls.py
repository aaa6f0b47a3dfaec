"""Many polls of a slow vendor leave the event loop free for everybody else, and one whose vendor
says nothing new reads nothing."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

from flyteagents import Call, Phase, Status
from flyteagents._kernel.call import KernelCall
from flyteagents._kernel.seen import UNCHANGED, Seen
from flyteagents.testing import free_port

POLLS = 500
DELAY = "0.2"
ROOT = Path(__file__).parents[2]


@contextlib.asynccontextmanager
async def apart(module: str) -> AsyncIterator[tuple[str, str]]:
    """A vendor's test server in a process of its own, so that its work is not measured: its
    address, and the line that it prints. Each of its replies takes 200 ms."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module, "--port", str(port), "--delay", DELAY),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = await process.stdout.readline()
        yield f"http://127.0.0.1:{port}", line.decode()
    finally:
        process.terminate()
        await process.wait()


async def assert_that_polls_leave_the_loop_free(
    poll: Callable[[], Coroutine[None, None, Status]],
) -> None:
    """poll: one of a job that runs. 500 of them, and a clock that ticks beside them."""
    lags: list[float] = []

    async def tick() -> None:
        # The loop's own work between two ticks: what else the machine does is not ours.
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.005)
            lags.append(time.thread_time() - began)

    ticking = asyncio.create_task(tick())
    polls = []
    for _ in range(POLLS):  # as they come from callers, not all in one tick
        polls.append(asyncio.create_task(poll()))
        await asyncio.sleep(0.002)
    found = await asyncio.gather(*polls)
    ticking.cancel()

    assert {status.phase for status in found} == {Phase.RUNNING}
    assert len(lags) > 100
    assert sorted(lags)[int(len(lags) * 0.95)] < 0.05


async def is_unchanged(get: Callable[[Call], Coroutine[None, None, Status]], call: Call) -> bool:
    """Whether the agent takes the second of two polls for the first one's.

    get: asks the agent. call: for one poll."""
    assert isinstance(call, KernelCall)
    call.seen = Seen()
    first = await get(call)
    assert first is not UNCHANGED
    call.seen.heard, call.heard = call.heard, None
    return await get(call) is UNCHANGED
