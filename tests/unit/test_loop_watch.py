from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from flyteagents._telemetry.loop_watch import LoopWatch, Place
from flyteagents._telemetry.metrics import Metrics
from flyteagents._telemetry.spreads import Spreads

TICK = 0.005  # shorter than in service, for short tests


class Watched:
    """A watch over the running loop, and what it found."""

    def __init__(self, threshold: float) -> None:
        spreads = Spreads("test", ())
        self.reader = spreads.added_to(InMemoryMetricReader)()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.blocks: list[tuple[str, float]] = []
        self.watch = LoopWatch(
            Metrics(self.provider.get_meter("test"), spreads),
            blame=lambda module: "acme" if module == __name__ else None,
            blocked=lambda agent, seconds: self.blocks.append((agent, seconds)),
            threshold=threshold,
            every=TICK,
        )

    def values(self, name: str) -> list[object]:
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def watched(request: pytest.FixtureRequest) -> Iterator[Watched]:
    made = Watched(getattr(request, "param", 0.02))
    yield made
    made.watch.stop()
    for thread in watches():  # the next test shall find its own alone
        thread.join(60)
    made.provider.shutdown()


def watches() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "loop-watch"]


async def ticks(number: float) -> None:
    await asyncio.sleep(1.5 * TICK * number)


async def logged(caplog: pytest.LogCaptureFixture) -> str:
    """What the watch's thread logs after the block."""
    end = time.monotonic() + 60
    while not caplog.text and time.monotonic() < end:
        await ticks(1)
    return caplog.text


def block(until: list[tuple[str, float]]) -> None:
    """Block the loop until the watch has told of it: a busy machine may take its time."""
    end = time.monotonic() + 60
    while not until and time.monotonic() < end:
        time.sleep(0.01)


async def test_code_that_blocks_the_loop_is_found_with_its_agent_and_place(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.watch.start()
    await ticks(1)
    with caplog.at_level(logging.WARNING):
        block(watched.blocks)
        await logged(caplog)
    agent, seconds = watched.blocks[0]
    assert agent == "acme"
    assert 0.02 < seconds < 60
    (message,) = [text for record in caplog.records if "acme" in (text := record.getMessage())]
    assert "by agent acme" in message
    assert f"{__name__}:" in message
    assert " block" in message
    assert len(watched.values("flyteagents_loop_blocked_seconds")) == 2  # the other is nobody's


async def test_a_block_that_is_nobodys_is_logged_and_blames_nobody(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.watch.start()
    await ticks(1)
    # Called by the loop itself: no frame of this module is on the stack.
    asyncio.get_running_loop().call_soon(time.sleep, 0.05)
    with caplog.at_level(logging.WARNING):
        text = await logged(caplog)
    assert watched.blocks == []
    assert "by no agent" in text


@pytest.mark.parametrize("watched", [60.0], indirect=True)  # a busy machine is no block
async def test_a_loop_that_waits_is_not_blocked_and_its_lag_is_measured(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.watch.start()
    end = time.monotonic() + 60
    with caplog.at_level(logging.WARNING):
        while measured(watched) < 2 and time.monotonic() < end:
            await ticks(1)
    assert measured(watched) >= 2
    assert (watched.blocks, caplog.text) == ([], "")


def measured(watched: Watched) -> int:
    """How often the loop's lag was."""
    return sum(
        getattr(point, "count", 0) for point in watched.values("flyteagents_loop_lag_seconds")
    )


async def test_a_watch_that_is_stopped_ends_its_thread(watched: Watched) -> None:
    watched.watch.start()
    (thread,) = watches()
    watched.watch.stop()
    await asyncio.to_thread(thread.join, 60)
    assert not thread.is_alive()


def test_a_loop_that_ends_while_the_watch_waits_for_it_was_not_blocked(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.new_event_loop()
    with caplog.at_level(logging.WARNING):
        loop.call_soon(watched.watch.start)
        loop.call_soon(loop.stop)
        loop.run_forever()
        (thread,) = watches()
        block(watched.blocks)  # the watch waits for a loop that turns no more
        watched.watch.stop()
        thread.join(60)
    loop.close()
    assert not thread.is_alive()
    assert caplog.text == ""


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_loop_that_waits_is_nobodys_block_on_either_loop(run: Any) -> None:
    def here() -> Any:
        made = Watched(60.0)
        ident = threading.get_ident()

        async def wait() -> Any:
            looking = asyncio.get_running_loop().run_in_executor(None, looked, made, ident)
            return await looking

        return run(wait())

    def looked(made: Watched, ident: int) -> Any:
        end = time.monotonic() + 60
        # It does some turns before it waits for this thread.
        while (place := made.watch._look(ident)) != Place() and time.monotonic() < end:
            time.sleep(0.01)
        return place

    assert here() == Place()
