"""Two replicas of the real server, a vendor, and a caller that checks what every answer must be.

What any answer of any agent must be is asserted here once, so that each test of the contract says
only what it is about.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from flyteagents._client.attempt import Attempt, FlyteTask
from flyteagents._client.caller import Caller
from flyteagents._client.rpc import Rpc
from flyteagents._kernel.envelope import dump, load
from flyteagents._kernel.keys import key_of
from flyteagents._status import Phase
from flyteagents._task import Key
from flyteagents.testing.contract.control import VendorControl
from flyteagents.testing.server import RealServer

FAILED = (Phase.FAILED, Phase.RETRYABLE_FAILED)
# Waiting has to be INITIALIZING: what Flyte is told with QUEUED, nobody sees.
_SHOWN = [phase.value for phase in Phase]


@dataclass
class Rig:
    """What a contract's test works with; `first` and `second` are replicas.

    base: what output prefixes begin with. metas: all `resource_meta` that were answered, with their
    attempts.
    """

    vendor: VendorControl
    first: RealServer
    second: RealServer
    caller: Caller
    base: str
    metas: list[tuple[Attempt, bytes]] = field(default_factory=list)

    @property
    def servers(self) -> tuple[RealServer, RealServer]:
        return self.first, self.second

    def attempt(self, task: FlyteTask) -> Attempt:
        """The first attempt of a task in a new execution."""
        return Attempt(task, generation=self.caller.generation, base=self.base)

    async def restart(self, server: RealServer) -> None:
        """Kill the server and start it again: it remembers nothing."""
        await asyncio.to_thread(server.restart)
        await self.caller.connected(server.endpoint)

    # Flyte's default (WA/connector/config.go:45). With less, an answer that takes all the time it
    # is given has 0.3 s for its way back, and a busy machine may take that.
    async def create(self, attempt: Attempt, on: RealServer, deadline: float = 10.0) -> bytes:
        """CreateTask, which must be OK and in time. Its `resource_meta`."""
        rpc = await self.caller.create(attempt, endpoint=on.endpoint, deadline=deadline)
        assert rpc.ok, f"CreateTask failed after {rpc.seconds:.1f} s: {rpc.code} {rpc.message}"
        self.metas.append((attempt, rpc.meta))
        return rpc.meta

    async def create_and_leave(
        self, attempt: Attempt, on: RealServer, sent: Callable[[], bool], what: str
    ) -> None:
        """CreateTask of a caller that has gone when `sent` is so, and never hears the answer."""
        creating = asyncio.ensure_future(self.caller.create(attempt, endpoint=on.endpoint))
        try:
            await self.until(sent, what)
        finally:
            creating.cancel()
            await asyncio.wait({creating})

    async def get(self, attempt: Attempt, meta: bytes, on: RealServer) -> Rpc:
        """GetTask, which must be OK and have a phase that Flyte shows."""
        rpc = await self.caller.get(attempt, meta, endpoint=on.endpoint, deadline=10.0)
        assert rpc.ok, f"GetTask failed: {rpc.code} {rpc.message}"
        assert rpc.number in _SHOWN, f"GetTask answered phase {rpc.number}"
        assert rpc.phase is not Phase.ABORTED, "Flyte drops the message of an aborted task"
        return rpc

    async def delete(
        self, attempt: Attempt, meta: bytes, on: RealServer, deadline: float = 10.0
    ) -> Rpc:
        """DeleteTask, which may fail once: while the job is stopping."""
        for _ in range(2):
            rpc = await self.caller.delete(attempt, meta, endpoint=on.endpoint, deadline=deadline)
            if rpc.ok:
                return rpc
        raise AssertionError(f"DeleteTask failed twice: {rpc.code} {rpc.message}")

    async def stopping(self, attempt: Attempt, meta: bytes, on: RealServer) -> asyncio.Task[Rpc]:
        """DeleteTask, once its vendor has accepted the cancel."""
        cancels = self.vendor.requests("cancel")
        deleting = asyncio.ensure_future(self.delete(attempt, meta, on))
        await self.until(lambda: self.vendor.requests("cancel") > cancels, "the cancel is sent")
        # The server looks again when that was answered.
        looks = self.vendor.requests("look")
        await self.until(lambda: self.vendor.requests("look") > looks, "a look after the cancel")
        return deleting

    async def reach(
        self, attempt: Attempt, meta: bytes, on: RealServer, *phases: Phase, within: float = 60.0
    ) -> Rpc:
        """Poll until one of `phases` is answered."""
        end = time.monotonic() + within
        while True:
            rpc = await self.get(attempt, meta, on)
            if rpc.phase in phases:
                return rpc
            wanted = " or ".join(phase.name for phase in phases)
            assert rpc.phase is not None
            text = f"{rpc.phase.name} {rpc.resource.message!r} instead of {wanted}"
            assert not rpc.phase.terminal, text
            assert time.monotonic() < end, f"{text} after {within:g} s"
            await asyncio.sleep(0.05)

    async def until(self, true: Callable[[], bool], what: str, within: float = 60.0) -> None:
        """Wait for something to be so at the vendor."""
        end = time.monotonic() + within
        while not true():
            assert time.monotonic() < end, f"not within {within:g} s: {what}"
            await asyncio.sleep(0.02)

    def started(self, *attempts: Attempt) -> int:
        """How many jobs the vendor has started for these attempts."""
        return sum(self.vendor.started(key(attempt)) for attempt in attempts)

    def live(self, attempt: Attempt) -> int:
        """How many of an attempt's jobs have not ended."""
        return self.vendor.live(key(attempt))

    def bugs(self) -> int:
        """How often an agent raised what no `AgentError` is; each is logged with an error id."""
        return sum(server.log.count('"error_id"') for server in self.servers)

    async def clear(self) -> None:
        """End all faults, and the jobs that tests have left behind."""
        self.vendor.heal()
        self.vendor.slow_cancel(0)
        left = [(attempt, meta) for attempt, meta in self.metas if self.live(attempt)]
        self.metas.clear()
        for attempt, meta in left:
            # A job that is slow to stop may end by itself.
            await self.caller.delete(attempt, meta, endpoint=self.first.endpoint, deadline=1.0)


def key(attempt: Attempt) -> Key:
    """The idempotency key of an attempt."""
    # The cluster's name is part of a key, and these servers have none.
    return key_of("", attempt.task.type, attempt.output_prefix)


def job(meta: bytes) -> Mapping[str, object]:
    """The job that a `resource_meta` names."""
    envelope = load(meta)
    assert envelope is not None, f"not an envelope of ours: {meta!r}"
    assert envelope.parked is None, f"no job was made: {envelope.parked}"
    assert envelope.job is not None
    return envelope.job


def aged(meta: bytes, seconds: float) -> bytes:
    """The same `resource_meta`, of a job that was created longer ago."""
    envelope = load(meta)
    assert envelope is not None
    return dump(replace(envelope, created=envelope.created - seconds))


@asynccontextmanager
async def rigged(
    vendor: AbstractAsyncContextManager[VendorControl],
    environment: Callable[[VendorControl], Mapping[str, str]],
    plugins: Sequence[str],
    python_path: Sequence[Path],
    base: str,
) -> AsyncIterator[Rig]:
    """Start a vendor and two servers, and end them."""
    async with vendor as control:
        # Its tests count looks, and mostly ask about jobs that run long.
        env = {"FLYTEAGENTS_FIRST_LOOK": "0", **environment(control)}
        servers = [RealServer(plugins, env, python_path) for _ in range(2)]
        try:
            await asyncio.gather(*(asyncio.to_thread(server.start) for server in servers))
            async with Caller(*(server.endpoint for server in servers)) as caller:
                yield Rig(control, servers[0], servers[1], caller, base)
        finally:
            for server in servers:
                if server.process is not None:
                    await asyncio.to_thread(server.kill)  # what it still does is of no interest
                server.close()
