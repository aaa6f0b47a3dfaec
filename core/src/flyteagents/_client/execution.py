"""One task as a Flyte control plane carries it through its attempts.

Flyte has two clocks: a cache polls jobs by itself (`polls`), and the workflow's own rounds read
what the cache has seen, which is here, with attempts, timeouts, DeleteTask and the abort. The facts
are in FlytePropeller's webapi plugin (core.go, launcher.go, monitor.go), its node executor, and the
Flyte 2 executor's taskaction_controller.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from flyteidl.core import literals_pb2
from google.protobuf.message import DecodeError

from flyteagents._client.attempt import Attempt
from flyteagents._client.caller import Caller
from flyteagents._client.outcome import Outcome, Try, Unwatched, Watch, local_path
from flyteagents._client.polls import QUIET, ROUNDS, Polls, Rules
from flyteagents._client.rpc import Rpc
from flyteagents._status import Phase
from flyteagents._wire.literals import decode_literals

# Flyte 1 aborts a workflow after eleven failed rounds (FP/handler.go:106-125); Flyte 2 ends the
# task at the fourth system error in a row ([main] EX/taskaction_controller.go:203-252).
_UNKNOWN_PHASES = {1: ROUNDS, 2: 4}


@dataclass(frozen=True)
class _End:
    """How an attempt ended for its user.

    again: the next one may follow. delete: DeleteTask follows, before the next attempt or, with
    `always`, in any case. instead: phase and message of the try where its end was not the
    service's last answer.
    """

    phase: Phase | None
    message: str = ""
    outputs: Mapping[str, object] = field(default_factory=dict)
    again: bool = False
    delete: bool = False
    always: bool = False
    instead: tuple[Phase | None, str] | None = None


class Execution:
    """A task on its way, from the moment it is made; needs a running event loop.

    synchronous: whether its agent answers within the call. alive: whether there is a server to
    ask at all. workers: what all polls share.
    """

    def __init__(
        self,
        caller: Caller,
        first: Attempt,
        rules: Rules,
        *,
        attempts: int = 1,
        repeats: int = 0,
        synchronous: Callable[[], bool] = lambda: False,
        workers: asyncio.Semaphore | None = None,
        alive: Callable[[], bool] = lambda: True,
        watch: Watch | None = None,
    ) -> None:
        self.attempt = first
        self.outcome = Outcome()
        self._caller, self._rules = caller, rules
        self._most, self._repeats = attempts, repeats
        self._synchronous, self._alive = synchronous, alive
        # Flyte's default: ten workers poll the jobs of all agents (WA/agent/config.go:18-31).
        self._workers = workers or asyncio.Semaphore(10)
        self._watch = watch or Unwatched()
        self._aborting = asyncio.Event()
        self._left: list[asyncio.Task[None]] = []
        self._work = asyncio.create_task(self._live())

    @property
    def meta(self) -> bytes | None:
        """The `resource_meta` of the attempt under way."""
        return self._now.meta or None

    @property
    def aborted(self) -> bool:
        return self._aborting.is_set()

    async def until(self, phase: Phase, within: float = 20.0) -> None:
        """Wait for GetTask to have answered `phase`. Raises asyncio.TimeoutError."""

        async def seen() -> None:
            while phase not in self.outcome.phases:
                if self._work.done():
                    raise asyncio.TimeoutError(f"it ended before {phase.name}: {self.outcome}")
                await asyncio.sleep(0.01)

        await asyncio.wait_for(seen(), within)

    def stop(self) -> None:
        """The user aborts the execution: DeleteTask until it is taken, in Flyte 1 up to 11
        times."""
        self._aborting.set()

    async def abort(self, within: float = 60.0) -> Outcome:
        """`stop`, and wait for the end."""
        self.stop()
        return await self.end(within)

    async def end(self, within: float | None = 60.0) -> Outcome:
        """Wait for the end. Raises asyncio.TimeoutError; the task is then dropped."""
        return await asyncio.wait_for(self._work, within)

    @property
    def _now(self) -> Try:
        return self.outcome.tries[-1]

    async def _live(self) -> Outcome:
        try:
            await self._carry()
        finally:
            # Else they would outlive the execution, and the caller's channels.
            for poll in self._left:
                poll.cancel()
            await asyncio.gather(*self._left, return_exceptions=True)
        return self.outcome

    async def _carry(self) -> None:
        outcome = self.outcome
        while True:
            number = len(outcome.tries)
            outcome.tries.append(Try(self.attempt, began=time.monotonic()))
            outcome.info = {}
            self._watch.attempt(number + 1, self._most)

            end = await self._one()
            if end.instead is not None:
                self._now.phase, self._now.message = end.instead
            self._now.seconds = time.monotonic() - self._now.began
            if self.aborted:
                break

            follows = end.again and number + 1 < self._most
            if end.delete and (follows or end.always):
                # Flyte 2 looks at no answer of this one; Flyte 1 tries until the workflow is over.
                forgiven = self.attempt.generation == 2
                if not await self._delete(1 if forgiven else ROUNDS) and not forgiven:
                    end = _End(Phase.FAILED, "the workflow was aborted: its DeleteTasks failed")
                    follows = False
            if not follows:
                break

            self._watch.note(f"attempt {number + 1} failed: {self._now.message}; trying again")
            if await self._aborted_within(self._rules.retry_pause):
                break
            self.attempt = self.attempt.next()

        if self.aborted:
            # Without a `resource_meta` Flyte sends no DeleteTask (WA/agent/plugin.go:281-284).
            stopped = self.meta is None or await self._delete(self._rules.deletes)
            outcome.phase, outcome.orphaned = Phase.ABORTED, not stopped
            return
        outcome.phase, outcome.message, outcome.outputs = end.phase, end.message, end.outputs
        # Flyte 2 deletes whatever has ended, also what succeeded, when it collects the record,
        # about an hour later ([main] EX/taskaction_controller.go:554-590).
        if self._rules.collect_after is not None and self.meta is not None:
            await asyncio.sleep(self._rules.collect_after)
            await self._delete(self._rules.deletes)

    async def _one(self) -> _End:
        """One attempt."""
        if self._synchronous():
            return await self._sync()
        created = await self._create()
        # A round whose state could not be stored is run again, with the same output prefix
        # (FP/nodes/task/handler.go:800-806).
        for _ in range(self._repeats):
            repeated = await self._create()
            if not created.ok:
                created = repeated  # else the first answer stays, also when a round is repeated
        if not created.ok:
            text = f"failed to create task from agent with {created.code}: {created.message}"
            # Flyte erases the code (WA/agent/plugin.go:177-178): whatever it was costs one attempt.
            burnt = (Phase.RETRYABLE_FAILED, created.error)
            return _End(Phase.FAILED, text, again=True, instead=burnt)

        self._now.meta = created.meta
        polls = Polls(
            poll=lambda: self._caller.get(self.attempt, created.meta),
            rules=self._rules,
            generation=self.attempt.generation,
            workers=self._workers,
            alive=self._alive,
            seen=self._seen,
        )
        try:
            return await self._follow(polls)
        finally:
            polls.stop()
            if self.aborted:
                self._left.extend(polls.calls)  # the DeleteTask does not wait for them
            else:
                await asyncio.gather(*polls.calls, return_exceptions=True)

    async def _create(self) -> Rpc:
        rpc = await self._caller.create(self.attempt)
        self.outcome.history.append(rpc)
        return rpc

    def _seen(self, rpc: Rpc) -> None:
        """A poll has ended."""
        outcome, now = self.outcome, self._now
        outcome.history.append(rpc)
        if not rpc.ok:
            self._watch.note(rpc.error)
            return
        if now.phase is None or not now.phase.terminal:  # else an overlapping poll comes late
            now.last, now.message = rpc, rpc.text
            if rpc.phase is not now.phase:  # only that makes an event
                outcome.merge(rpc.info if self.attempt.generation == 1 else {})
            now.phase = rpc.phase
        self._watch.answer(rpc, time.monotonic() - now.began)
        # A phase that was seen before makes no event, so later links are lost
        # (FP/nodes/task/handler.go:565-570).
        if rpc.phase in (Phase.INITIALIZING, Phase.RUNNING, *QUIET) and not outcome.links:
            outcome.links = rpc.links

    async def _follow(self, polls: Polls) -> _End:
        """The workflow's own rounds, which read what the polls have found."""
        timeout = self.attempt.task.timeout
        began, unknown = time.monotonic(), 0
        while not await self._aborted_within(self._rules.reevaluate):
            if timeout and time.monotonic() - began > timeout:
                return _End(
                    Phase.FAILED,
                    "TimeoutExpired",
                    again=True,
                    delete=True,
                    always=True,
                    instead=(
                        Phase.RETRYABLE_FAILED,
                        f"it took longer than its timeout of {timeout:g} s",
                    ),
                )
            latest = polls.latest
            # Flyte makes this a permanent failure, whatever retries are left (PM/monitor.go:33-41).
            if polls.gave_up and latest is None:
                text = f"AutoRefreshCacheFailed: {polls.error}"
                return _End(Phase.FAILED, text, instead=(None, polls.error))
            # The cache goes on answering with what it saw last (PM/cache.go:50-57), so no round
            # ever learns that nobody polls any more.
            if polls.gave_up and latest is not None and latest.phase not in QUIET:
                self.outcome.stuck = True
                text = f"not polled any more: {polls.error}"
                return _End(None, text, instead=(None, polls.error))
            if latest is None:
                continue
            end = self._ended(latest)
            if end is not None:
                return end
            if latest.phase is None:
                unknown += 1  # an unset phase, or one that Flyte does not know
                if unknown == _UNKNOWN_PHASES[self.attempt.generation]:
                    text = f"unknown phase {latest.number}"
                    return _End(Phase.FAILED, text, instead=(None, text))
        return _End(Phase.ABORTED)

    async def _aborted_within(self, seconds: float) -> bool:
        # Not the built-in TimeoutError, which is another class before Python 3.11.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._aborting.wait(), seconds)
        return self.aborted

    def _ended(self, rpc: Rpc) -> _End | None:
        # No DeleteTask follows SUCCEEDED, FAILED or ABORTED (FP/nodes/task/handler.go:934-937).
        if rpc.phase is Phase.SUCCEEDED:
            return self._outputs(rpc)
        if rpc.phase is Phase.FAILED:
            return _End(Phase.FAILED, f"failed to run the job: {rpc.text}")
        if rpc.phase is Phase.ABORTED:
            # Flyte drops what the agent says with this phase (WA/agent/plugin.go:307-362).
            return _End(Phase.FAILED, "failed to run the job with aborted phase.")
        if rpc.phase is Phase.RETRYABLE_FAILED:
            # The phase that Flyte has stored is still a running one, so the job is deleted before
            # the retry, although it has failed (FP/nodes/executor.go:895-896).
            return _End(Phase.FAILED, rpc.text, again=True, delete=True)
        return None

    def _outputs(self, rpc: Rpc) -> _End:
        declared = self.attempt.task.declared
        if not declared:
            return _End(Phase.SUCCEEDED)  # nothing is read, not even an error.pb
        # Empty outputs are outputs; only absent ones mean a file (WA/agent/plugin.go:411-431).
        if rpc.resource.HasField("outputs"):
            return _End(Phase.SUCCEEDED, outputs=decode_literals(rpc.resource.outputs, declared))
        # Flyte 1 reads error.pb first and retries where outputs.pb is missing
        # (FP/nodes/task/handler.go:841-925); Flyte 2 never reads error.pb and fails for good.
        folder, again = local_path(self.attempt.output_prefix), self.attempt.generation == 1
        if folder is None and self._rules.remote_outputs:
            return _End(Phase.SUCCEEDED)
        if folder is not None and again and (folder / "error.pb").exists():
            return _End(Phase.FAILED, "the job wrote error.pb", again=True, delete=True)
        try:
            raw = (folder / "outputs.pb").read_bytes() if folder is not None else None
            stored = literals_pb2.LiteralMap.FromString(raw)
        except (OSError, DecodeError, TypeError):
            missing = (Phase.RETRYABLE_FAILED, "OutputsNotFound")
            return _End(Phase.FAILED, missing[1], again=again, delete=True, instead=missing)
        return _End(Phase.SUCCEEDED, outputs=decode_literals(stored, declared))

    async def _sync(self) -> _End:
        calling = asyncio.create_task(self._caller.run_sync(self.attempt))
        aborting = asyncio.create_task(self._aborting.wait())
        await asyncio.wait({calling, aborting}, return_when=asyncio.FIRST_COMPLETED)
        aborting.cancel()
        if not calling.done():
            calling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await calling
            return _End(Phase.ABORTED)
        rpc, now = await calling, self._now
        self.outcome.history.append(rpc)
        if not rpc.ok:
            burnt = (Phase.RETRYABLE_FAILED, rpc.error)
            return _End(Phase.FAILED, f"{rpc.code}: {rpc.message}", again=True, instead=burnt)
        now.last, now.phase, now.message = rpc, rpc.phase, rpc.text
        self._watch.answer(rpc, rpc.seconds)
        end = self._ended(rpc)
        if end is None:  # each resync now kills one of the workers that poll all tasks
            self.outcome.stuck = True
            text = f"a synchronous agent answered {rpc.phase}"
            return _End(None, text, instead=(None, text))
        # A synchronous answer has no `resource_meta` that a DeleteTask could name.
        return replace(end, delete=False)

    async def _delete(self, tries: int | None) -> bool:
        """DeleteTask until it is OK; whether it was."""
        assert self.meta is not None
        failed = 0
        while tries is None or failed < tries:
            rpc = await self._caller.delete(self.attempt, self.meta)
            self.outcome.history.append(rpc)
            if rpc.ok:
                return True
            failed += 1
            self._watch.note(rpc.error)
            # A server that has ended takes none of the further tries.
            if not self._alive():
                break
            if tries != 1:
                await asyncio.sleep(self._rules.delete_pause)
        return False
