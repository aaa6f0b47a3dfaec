"""Two releases behind one name, in both directions, under load and with jobs running: Flyte's
calls, with the settings that the chart prints for Flyte, notice nothing."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from pathlib import Path

import pytest
from tests.deploy.flyte import SCALE, Flyte
from tests.deploy.rollouts import Fleet, Release, fleet, next_release

from flyteagents import Phase
from flyteagents.testing import (
    Attempt,
    Caller,
    Generation,
    JobService,
    Rpc,
    free_port,
    task_template,
)

CREATES = 10
"""A second."""
POLL_EVERY = 0.15
NOW = Release("this")


class Load:
    """Tasks that are started, polled and ended all the time. Every CreateTask is sent twice, as
    Flyte does when it loses its own state."""

    def __init__(self, calls: Caller) -> None:
        self.calls = calls
        self.phases: Counter[Phase | None] = Counter()
        self.doubled: list[str] = []
        self._going = True
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        for number in itertools.count():
            if not self._going:
                break
            self._tasks.append(asyncio.create_task(self._task(number)))
            await asyncio.sleep(1 / CREATES)
        await asyncio.gather(*self._tasks)

    def stop(self) -> None:
        self._going = False

    @property
    def failed(self) -> list[Rpc]:
        return [rpc for rpc in self.calls.history if not rpc.ok]

    async def _task(self, number: int) -> None:
        aborted = number % 5 == 0
        script = "forever" if aborted else "sleep 2"
        work = Attempt(
            task_template("job_keyed", custom={"script": script}),
            execution=f"upgrade-{number}",
            generation=self.calls.generation,
        )
        first = await self.calls.create(work)
        again = await self.calls.create(work)
        if job(first.meta) != job(again.meta):
            self.doubled.append(f"{first.meta!r} {again.meta!r}")
        for turn in itertools.count():
            poll = await self.calls.get(work, first.meta)
            if not poll.ok:
                return  # it is in the history
            if poll.phase in (Phase.SUCCEEDED, Phase.FAILED, Phase.RETRYABLE_FAILED):
                self.phases[poll.phase] += 1
                return
            if aborted and turn > 12:
                await self.calls.delete(work, first.meta)
                return
            await asyncio.sleep(POLL_EVERY)


def job(meta: bytes) -> object:
    """The job that an envelope names."""
    return json.loads(meta).get("j") if meta else None


@pytest.mark.slow
@pytest.mark.parametrize("generation", [1, 2])
async def test_an_upgrade_and_the_way_back_lose_no_call_and_double_no_job(
    generation: Generation, tmp_path: Path
) -> None:
    later = next_release(tmp_path)
    async with JobService() as vendor:
        env = {"FLYTEAGENTS_JOBS_URL": vendor.url, "FLYTEAGENTS_DRAIN_DELAY": str(10 * SCALE)}
        async with (
            fleet(NOW, 2, free_port(), env, settled=40 * SCALE) as pods,
            Flyte(pods.names.target(pods.port), generation) as calls,
        ):
            load = Load(calls)
            running = asyncio.create_task(load.run())
            await asyncio.sleep(1.0)
            await pods.roll_out(later)
            assert {pod.release for pod in pods.running} == {later}
            await asyncio.sleep(1.0)
            await pods.roll_out(NOW)
            await pods.drained()
            await asyncio.sleep(1.0)
            load.stop()
            await running
        report(load, pods)
        assert load.failed == []
        assert load.doubled == []
        # One job for each task, each ended as it should.
        tasks = {rpc.meta for rpc in calls.history if rpc.method == "CreateTask"}
        assert len(vendor.jobs) == len({json.dumps(job(meta)) for meta in tasks})
        states = Counter(each.state for each in vendor.jobs.values())
        assert states.keys() == {"DONE", "CANCELED"}
        assert load.phases == {Phase.SUCCEEDED: states["DONE"]}
        assert pods.codes == [0] * 4


def report(load: Load, pods: Fleet) -> None:
    calls = Counter(f"{rpc.method} {rpc.code}" for rpc in load.calls.history)
    print(f"{len(load.calls.history)} calls: {dict(calls)}; the name was asked {pods.names.asked}x")
    for rpc in load.failed[:5]:
        print(rpc.method, rpc.code, rpc.message)
