"""One task as a Flyte control plane carries it through its attempts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from flyteidl.core import literals_pb2
from google.protobuf.message import DecodeError

from flyteagents._status import Link, Phase
from flyteagents._wire.literals import decode_literals
from flyteagents.testing.calls import Rpc
from flyteagents.testing.tasks import Attempt

if TYPE_CHECKING:
    from flyteagents.testing.propeller import FakePropeller

FORGIVEN = 5
"""GetTask errors that Flyte forgives in a task's whole life (`maxSystemFailures`)."""
ROUNDS = 11
"""Failed rounds, DeleteTasks among them, after which Flyte 1 aborts the whole workflow."""
RESYNC, REEVALUATE = 30.0, 10.0
"""Seconds, before they are scaled."""
RETRY_PAUSE = {1: 0.1, 2: 0.07}
DELETE_PAUSE = {1: 1.0, 2: 10.0}
_QUIET = (Phase.SUCCEEDED, Phase.FAILED, Phase.ABORTED)


@dataclass
class Outcome:
    """What became of a task, as its user sees it.

    phase: SUCCEEDED, FAILED or ABORTED; None for a task that hangs for ever, because Flyte has
        given up polling it (`stuck`).
    outputs: name to value. attempts: how many were begun. prefix: the last one's output prefix.
    history: every RPC made for the task. phases: what GetTask answered, in order, for all attempts.
    links, info: what the console shows: those of the first answer that says where the job stands.
    orphaned: no DeleteTask was accepted for a job that should have been stopped.
    """

    phase: Phase | None = None
    message: str = ""
    outputs: Mapping[str, object] = field(default_factory=dict)
    attempts: int = 0
    prefix: str = ""
    history: list[Rpc] = field(default_factory=list)
    links: Sequence[Link] = ()
    info: Mapping[str, object] = field(default_factory=dict)
    stuck: bool = False
    orphaned: bool = False

    @property
    def phases(self) -> list[Phase | None]:
        return [rpc.phase for rpc in self.calls("GetTask") if rpc.ok]

    @property
    def failures(self) -> list[Rpc]:
        """The RPCs that failed."""
        return [rpc for rpc in self.history if not rpc.ok]

    def calls(self, method: str) -> list[Rpc]:
        return [rpc for rpc in self.history if rpc.method == method]


@dataclass(frozen=True)
class _End:
    """How an attempt ended. `again`: the next one may follow."""

    phase: Phase | None
    message: str = ""
    outputs: Mapping[str, object] = field(default_factory=dict)
    again: bool = False
    meta: bytes | None = None


class _Polls:
    """The cache's item of one attempt: polled, as soon as it is there, at each resync."""

    def __init__(self, propeller: FakePropeller, attempt: Attempt, meta: bytes, seen: Outcome):
        self._propeller, self._attempt, self._meta, self._seen = propeller, attempt, meta, seen
        self._calls: set[asyncio.Task[None]] = set()
        self.latest: Rpc | None = None
        self.failures = 0
        self.error = ""
        self.work = asyncio.create_task(self._resync())

    @property
    def gave_up(self) -> bool:
        return self.failures > FORGIVEN

    async def _resync(self) -> None:
        while not self.gave_up and not self._ended():
            # An item counts as done when a worker takes it, so slow polls overlap.
            self._calls.add(asyncio.create_task(self._poll()))
            await asyncio.sleep(RESYNC * self._propeller.scale)

    async def _poll(self) -> None:
        async with self._propeller.workers:
            if self._ended():
                return
            counted = self.failures  # of overlapping polls the last one's count stays
            rpc = await self._propeller.get(self._attempt, self._meta)
            self._seen.history.append(rpc)
            if rpc.ok:
                self.latest = rpc
                self._show(rpc)
            else:
                self.failures, self.error = counted + 1, f"{rpc.code}: {rpc.message}"

    def _show(self, rpc: Rpc) -> None:
        seen = self._seen
        if rpc.phase in (Phase.INITIALIZING, Phase.RUNNING, *_QUIET) and not seen.links:
            seen.links = rpc.links
        if self._attempt.generation == 1 and rpc.phase is not Phase.INITIALIZING and not seen.info:
            seen.info = rpc.info

    def _ended(self) -> bool:
        phase = self.latest.phase if self.latest else None
        # Flyte 1 goes on after RETRYABLE_FAILED until the item is dropped.
        return phase in _QUIET or (
            phase is Phase.RETRYABLE_FAILED and self._attempt.generation == 2
        )

    async def stop(self) -> None:
        """No poll follows; those under way are waited for."""
        self.work.cancel()
        await asyncio.gather(self.work, *self._calls, return_exceptions=True)


class Execution:
    """A task on its way; made by `FakePropeller.start`."""

    def __init__(self, propeller: FakePropeller, first: Attempt, attempts: int, repeats: int):
        self._propeller, self._repeats, self._most = propeller, repeats, attempts
        self._aborting = asyncio.Event()
        self.attempt = first
        self.outcome = Outcome()
        self.meta: bytes | None = None
        self._work = asyncio.create_task(self._live())

    async def until(self, phase: Phase, within: float = 20.0) -> None:
        """Wait for GetTask to have answered `phase`. Raises asyncio.TimeoutError."""

        async def seen() -> None:
            while phase not in self.outcome.phases:
                if self._work.done():
                    raise asyncio.TimeoutError(f"it ended before {phase.name}: {self.outcome}")
                await asyncio.sleep(0.01)

        await asyncio.wait_for(seen(), within)

    async def abort(self, within: float = 60.0) -> Outcome:
        """The user aborts the execution: DeleteTask, up to 11 times in Flyte 1."""
        self._aborting.set()
        return await self.end(within)

    async def end(self, within: float = 60.0) -> Outcome:
        """Wait for the end. Raises asyncio.TimeoutError; the task is then dropped."""
        return await asyncio.wait_for(self._work, within)

    async def _live(self) -> Outcome:
        outcome, end = self.outcome, _End(None)
        for number in range(self._most):
            outcome.attempts, outcome.prefix = number + 1, self.attempt.output_prefix
            self.meta = None
            end = await self._one()
            if self._aborting.is_set() or not end.again or number + 1 == self._most:
                break
            if end.meta is not None and not await self._delete(end.meta, forgiven=True):
                end = _End(Phase.FAILED, "the workflow was aborted: its DeleteTasks failed")
                break
            await asyncio.sleep(RETRY_PAUSE[self.attempt.generation])
            self.attempt = self.attempt.next()
        if self._aborting.is_set():
            stopped = self.meta is None or await self._delete(self.meta)
            outcome.phase, outcome.orphaned = Phase.ABORTED, not stopped
            return outcome
        outcome.phase, outcome.message, outcome.outputs = end.phase, end.message, end.outputs
        if self.attempt.generation == 2 and self.meta is not None:
            # An hour after the end the task's record is collected, which deletes the job.
            await asyncio.sleep(self._propeller.collect_after)
            await self._delete(self.meta)
        return outcome

    async def _one(self) -> _End:
        """One attempt."""
        propeller, attempt = self._propeller, self.attempt
        if propeller.agents.get(attempt.task.type):
            return await self._sync()
        created = await self._create()
        for _ in range(self._repeats):
            repeated = await self._create()
            if not created.ok:
                created = repeated  # else the first answer stays, also when a round is repeated
        if not created.ok:
            text = f"failed to create task from agent with {created.code}: {created.message}"
            return _End(Phase.FAILED, text, again=True)
        self.meta = created.meta
        polls = _Polls(propeller, attempt, created.meta, self.outcome)
        try:
            return await self._follow(polls)
        finally:
            await polls.stop()

    async def _create(self) -> Rpc:
        rpc = await self._propeller.create(self.attempt)
        self.outcome.history.append(rpc)
        return rpc

    async def _follow(self, polls: _Polls) -> _End:
        """The workflow's own rounds, which read what the polls have found."""
        began, rounds = time.monotonic(), 0
        timeout = self.attempt.task.template.metadata.timeout.ToTimedelta().total_seconds()
        while True:
            pause = REEVALUATE * self._propeller.scale
            try:
                await asyncio.wait_for(self._aborting.wait(), pause)
                return _End(Phase.ABORTED)
            except asyncio.TimeoutError:
                pass
            if timeout and time.monotonic() - began > timeout:
                return _End(Phase.FAILED, "TimeoutExpired", again=True, meta=self.meta)
            if polls.gave_up and polls.latest is None:
                return _End(Phase.FAILED, f"AutoRefreshCacheFailed: {polls.error}")
            if polls.gave_up and polls.latest is not None and polls.latest.phase not in _QUIET:
                self.outcome.stuck = True
                return _End(None, f"not polled any more: {polls.error}")
            if polls.latest is None:
                continue
            end = self._ended(polls.latest)
            if end is None and polls.latest.phase is None:
                rounds += 1  # an unset phase, or one that Flyte does not know
                if rounds == (ROUNDS if self.attempt.generation == 1 else 4):
                    return _End(Phase.FAILED, f"unknown phase {polls.latest.number}")
            elif end is not None:
                return end

    def _ended(self, rpc: Rpc) -> _End | None:
        text = "" if rpc.resource is None else str(rpc.resource.message)
        if rpc.phase is Phase.SUCCEEDED:
            return self._outputs(rpc)
        if rpc.phase is Phase.FAILED:
            return _End(Phase.FAILED, f"failed to run the job: {text}")
        if rpc.phase is Phase.ABORTED:
            return _End(Phase.FAILED, "failed to run the job with aborted phase.")
        if rpc.phase is Phase.RETRYABLE_FAILED:
            return _End(Phase.FAILED, text, again=True, meta=self.meta)
        return None

    def _outputs(self, rpc: Rpc) -> _End:
        declared = self.attempt.task.declared
        if not declared:
            return _End(Phase.SUCCEEDED)  # nothing is read, not even an error.pb
        if rpc.resource.HasField("outputs"):
            return _End(Phase.SUCCEEDED, outputs=decode_literals(rpc.resource.outputs, declared))
        folder, again = Path(self.attempt.output_prefix), self.attempt.generation == 1
        if again and (folder / "error.pb").exists():
            return _End(Phase.FAILED, "the job wrote error.pb", again=True, meta=self.meta)
        try:
            stored = literals_pb2.LiteralMap.FromString((folder / "outputs.pb").read_bytes())
        except (OSError, DecodeError):
            return _End(Phase.FAILED, "OutputsNotFound", again=again, meta=self.meta)
        return _End(Phase.SUCCEEDED, outputs=decode_literals(stored, declared))

    async def _sync(self) -> _End:
        rpc = await self._propeller.run_sync(self.attempt)
        self.outcome.history.append(rpc)
        if not rpc.ok:
            return _End(Phase.FAILED, f"{rpc.code}: {rpc.message}", again=True)
        end = self._ended(rpc)
        if end is None:  # each resync now kills one of the workers that poll all tasks
            self.outcome.stuck = True
            return _End(None, f"a synchronous agent answered {rpc.phase}")
        return replace(end, meta=None)

    async def _delete(self, meta: bytes, forgiven: bool = False) -> bool:
        """DeleteTask until it is OK; whether it was. Flyte 2 does not look before a retry."""
        generation = self.attempt.generation
        for _ in range(1 if forgiven and generation == 2 else ROUNDS):
            rpc = await self._propeller.delete(self.attempt, meta)
            self.outcome.history.append(rpc)
            if rpc.ok:
                return True
            await asyncio.sleep(max(DELETE_PAUSE[generation] * self._propeller.scale, 0.05))
        return forgiven and generation == 2
