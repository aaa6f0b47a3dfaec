"""`flyteagents run` as the control plane of one task; an interrupt cancels its job.

The calls and their order are `Execution`'s, as in the test kit. Here are the rules of somebody who
waits at a terminal, and how a signal becomes an abort without tearing the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from flyteagents._cli import screen
from flyteagents._cli.aftermath import Aftermath
from flyteagents._cli.endpoint import Remote
from flyteagents._cli.hung_up import Readers
from flyteagents._cli.interrupts import Interrupts
from flyteagents._cli.known_jobs import remember
from flyteagents._cli.serving import serves
from flyteagents._client.attempt import Attempt
from flyteagents._client.caller import Caller
from flyteagents._client.execution import Execution
from flyteagents._client.outcome import Outcome, Watch
from flyteagents._client.polls import Rules
from flyteagents._client.rpc import Rpc
from flyteagents._status import Phase

_SYNC_DEADLINE = 60.0
"""Seconds for ExecuteTaskSync, as `propeller-config` prints it."""
_PATIENCE = 60.0
"""Seconds without an answer to GetTask after which we stop asking. Flyte gives up earlier."""

_PAGES, _SHOWN = 20, 20
"""Pages of a failed job's log that are read, and lines at its end that are shown."""
_LOOK = 0.5
"""Seconds between two looks whether somebody still reads what is printed."""


@dataclass
class _Attentive:
    """Passes all on, tells each of the agent's warnings once, and keeps the job's name for
    `flyteagents logs` and `cancel`."""

    watch: Watch
    meta: Callable[[], bytes | None]
    prefix: Callable[[], str]
    kept: bytes = b""
    told: set[str] = field(default_factory=set)

    def attempt(self, number: int, of: int) -> None:
        self.watch.attempt(number, of)

    def answer(self, rpc: Rpc, seconds: float) -> None:
        meta = self.meta()
        if meta and meta != self.kept:
            self.kept = meta
            remember(meta, self.prefix())
        warnings = rpc.info.get("warnings")
        for text in warnings if isinstance(warnings, list) else ():
            if str(text) not in self.told:
                self.told.add(str(text))
                screen.aside(f"warning: {text}", "yellow")
        self.watch.answer(rpc, seconds)

    def note(self, text: str) -> None:
        self.watch.note(text)


@dataclass(frozen=True)
class Play:
    """One task against one server.

    ours: whether the server was started for this, with the settings of this process.
    alive: whether there is a server to ask at all. bug: what its agent raises again and again.
    """

    server: Remote
    ours: bool
    first: Attempt
    attempts: int
    every: float
    watch: Watch
    alive: Callable[[], bool] = lambda: True
    bug: Callable[[], str | None] = lambda: None

    def to_its_end(self, interrupts: Interrupts) -> Outcome:
        """Until SUCCEEDED, FAILED, or the last RETRYABLE_FAILED; an interrupt cancels the job.
        Raises NotServed; KeyboardInterrupt before there is anything to cancel."""
        outcome = asyncio.run(self._play(interrupts))
        if outcome is None:
            raise KeyboardInterrupt
        return outcome

    async def _play(self, interrupts: Interrupts) -> Outcome | None:
        loop, interrupted = asyncio.get_running_loop(), asyncio.Event()

        def interrupt() -> None:
            loop.call_soon_threadsafe(interrupted.set)  # wakes the loop too

        with interrupts.calling(interrupt):
            caller = Caller(
                self.server.endpoint,
                generation=self.first.generation,
                deadlines={"ExecuteTaskSync": _SYNC_DEADLINE},
                tls=self.server.credentials,
            )
            async with caller:
                listing = asyncio.create_task(serves(caller, self.first.task.type))
                await _first(listing, interrupted)
                if not listing.done():
                    listing.cancel()
                    return None
                synchronous = listing.result()
                execution = Execution(
                    caller,
                    self.first,
                    self._rules(),
                    attempts=self.attempts,
                    synchronous=lambda: synchronous,
                    alive=self.alive,
                    watch=_Attentive(
                        self.watch,
                        meta=lambda: execution.meta,
                        prefix=lambda: execution.attempt.output_prefix,
                    ),
                )
                aftermath = Aftermath(caller, None if self.ours else self.server, self.watch)
                interrupts.leaving = lambda: aftermath.left(execution.outcome)
                ending = asyncio.create_task(execution.end(within=None))
                looking = asyncio.create_task(self._until_no_use(interrupted))
                await _first(ending, interrupted)
                looking.cancel()
                bug = self.bug()
                if not ending.done():
                    leaving = "" if bug else "; another Ctrl-C leaves it as it is"
                    self.watch.note(f"cancelling the job{leaving}")
                    execution.stop()
                outcome = await ending
                await aftermath.see(outcome)
                self._tell_bug(outcome, bug)
                await self._show_log(caller, outcome)
                return outcome

    def _rules(self) -> Rules:
        return Rules(
            resync=self.every,
            # What a poll saw is read at once: this is for somebody who waits.
            reevaluate=min(self.every, 0.05),
            retry_pause=0.1,
            delete_pause=1.0,
            # At this pace Flyte's five would be used up in seconds; `patience` counts instead.
            forgiven=float("inf"),
            patience=_PATIENCE,
            remote_outputs=True,
        )

    async def _until_no_use(self, interrupted: asyncio.Event) -> None:
        """Nobody reads what we print, or the agent has a bug: interrupts too."""
        readers = Readers()
        while not readers.look() and self.bug() is None:  # noqa: ASYNC110 # nobody sets an event
            await asyncio.sleep(_LOOK)
        interrupted.set()

    async def _show_log(self, caller: Caller, outcome: Outcome) -> None:
        """The end of a failed job's log, where its agent has one."""
        last = outcome.tries[-1]
        if last.phase not in (Phase.FAILED, Phase.RETRYABLE_FAILED) or not last.meta:
            return
        lines: list[str] = []
        token = ""
        for _ in range(_PAGES):
            rpc, page, token = await caller.logs(last.attempt, last.meta, token)
            lines += page
            if not rpc.ok or not page or not token:
                break
        for line in lines[-_SHOWN:]:
            self.watch.note(f"log: {line}")

    def _tell_bug(self, outcome: Outcome, bug: str | None) -> None:
        if bug is not None and outcome.phase is Phase.ABORTED:
            last = outcome.tries[-1]
            outcome.phase = last.phase = Phase.FAILED
            last.message = f"the agent has a bug: {bug}; {last.message}"


async def _first(task: asyncio.Task[object], event: asyncio.Event) -> None:
    """Wait until the task has ended or the event is set."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
