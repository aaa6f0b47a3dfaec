from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from flyteagents._telemetry.loop_watch import LoopWatch
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
    made.provider.shutdown()


async def ticks(number: float) -> None:
    await asyncio.sleep(1.5 * TICK * number)


async def logged(caplog: pytest.LogCaptureFixture) -> str:
    """What the watch's thread logs after the block."""
    end = time.monotonic() + 2
    while not caplog.text and time.monotonic() < end:
        await ticks(1)
    return caplog.text


def block(seconds: float) -> None:
    time.sleep(seconds)


async def test_code_that_blocks_the_loop_is_found_with_its_agent_and_place(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.watch.start()
    await ticks(1)
    with caplog.at_level(logging.WARNING):
        block(0.05)
        await logged(caplog)
    agent, seconds = watched.blocks[-1]  # the others were told while it lasted
    assert agent == "acme"
    assert 0.03 < seconds < 1
    (message,) = [record.getMessage() for record in caplog.records]
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


@pytest.mark.parametrize("watched", [0.5], indirect=True)  # a busy machine is no block
async def test_a_loop_that_waits_is_not_blocked_and_its_lag_is_measured(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.watch.start()
    with caplog.at_level(logging.WARNING):
        await ticks(5)
    assert (watched.blocks, caplog.text) == ([], "")
    (point,) = watched.values("flyteagents_loop_lag_seconds")
    assert getattr(point, "count", 0) >= 2


async def test_a_watch_that_is_stopped_ends_its_thread(watched: Watched) -> None:
    watched.watch.start()
    (thread,) = [each for each in threading.enumerate() if each.name == "loop-watch"]
    watched.watch.stop()
    await asyncio.to_thread(thread.join, 1)
    assert not thread.is_alive()
