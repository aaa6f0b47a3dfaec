"""A collector that is down, or hangs, is nothing that a caller notices."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator

import pytest
from tests.chaos.attempts import SCALE, attempt
from tests.chaos.conftest import MakeServer
from tests.chaos.servers import Server

from flyteagents import Phase
from flyteagents.testing import FakePropeller, free_port, task_template

# Compares times.
pytestmark = pytest.mark.alone
FAST = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_METRIC_EXPORT_INTERVAL": "200"}
TASKS = 20


@pytest.fixture
async def hanging() -> AsyncIterator[str]:
    """An address that takes connections and what is sent, and says nothing."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass
        writer.close()

    listener = await asyncio.start_server(swallow, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    listener.close()
    await listener.wait_closed()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("fault", ["down", "hangs"])
async def test_a_bad_collector_changes_nothing_that_a_caller_sees(
    make_server: MakeServer, hanging: str, fault: str, protocol: str
) -> None:
    endpoint = hanging if fault == "hangs" else f"http://127.0.0.1:{free_port()}"
    telling, quiet = await asyncio.gather(
        make_server(
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            **FAST,
        ),
        make_server(),
    )
    results, times = [], []
    for server in (telling, quiet):
        began = time.monotonic()
        results.append(await tasks(server))
        times.append(time.monotonic() - began)
    assert results[0] == results[1] == [Phase.SUCCEEDED] * TASKS
    polls = [await interleaved(telling, quiet)]
    print(f"collector {fault}, {protocol}: {times[0]:.2f} s, without {times[1]:.2f} s; {polls[0]}")
    assert times[0] < times[1] + 5
    began = time.monotonic()
    assert await telling.stop() == 0, telling.log[-2000:]
    assert time.monotonic() - began < 8, "the exporters held up the exit"
    # One complaint a kind, not one a batch.
    assert telling.log.count("opentelemetry") < 20, telling.log[-3000:]


async def tasks(server: Server) -> list[Phase | None]:
    task = task_template("job_keyed", custom={"script": "sleep 0.1"})
    async with FakePropeller(server.target, scale=SCALE) as propeller:
        outcomes = await asyncio.gather(*(propeller.run(task) for _ in range(TASKS)))
    assert not any(outcome.failures for outcome in outcomes)
    return [outcome.phase for outcome in outcomes]


async def interleaved(telling: Server, quiet: Server) -> str:
    """Polls on both in turns; the medians must not be far apart."""
    work = attempt("chaos_idle", "polled")
    taken: tuple[list[float], list[float]] = ([], [])
    async with telling.caller() as one, quiet.caller() as two:
        metas = [(await caller.create(work)).meta for caller in (one, two)]
        for _ in range(200):
            for caller, meta, times in zip((one, two), metas, taken, strict=True):
                polled = await caller.get(work, meta)
                assert polled.ok, polled
                times.append(polled.seconds)
    medians = [statistics.median(times) for times in taken]
    assert medians[0] < 2 * medians[1] + 0.005, medians
    assert max(taken[0]) < max(taken[1]) + 2
    return f"polls {medians[0] * 1000:.1f} ms, without {medians[1] * 1000:.1f} ms"
