"""What became of a job that `flyteagents run` had cancelled: after an interrupt, at a timeout, for
an agent with a bug.

DeleteTask's OK does not say, so the job is looked at until it has ended. What was not seen to end
may cost somebody money, and is told with the command that stops it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from flyteagents._cli.cancelling import (
    STOPS_WITHIN,
    Progress,
    command_to_stop,
    how_it_ended,
    until_ended,
)
from flyteagents._cli.endpoint import Remote
from flyteagents._cli.standing import AtServer, Onlooker, at_vendor
from flyteagents._client.caller import Caller
from flyteagents._client.outcome import Outcome, Try, Watch
from flyteagents._kernel.envelope import load
from flyteagents._status import Phase


@dataclass(frozen=True)
class Aftermath:
    """remote: the server, where it is not one that was started for this."""

    caller: Caller
    remote: Remote | None
    watch: Watch

    async def see(self, outcome: Outcome) -> None:
        """Look at the last attempt's job if it was to be cancelled, and say how it stands: in the
        attempt's message, as its phase if it was interrupted, and in `outcome.orphaned`."""
        last, interrupted = outcome.tries[-1], outcome.phase is Phase.ABORTED
        if not last.meta:
            if interrupted:
                self._say(last, "interrupted before the job was started", instead=True)
            return
        deletes = [rpc for rpc in outcome.calls("DeleteTask") if rpc.attempt == last.attempt.number]
        if not deletes or _was_seen_to_end(last):
            return

        accepted, refusal, progress = deletes[-1].ok, deletes[-1].may_run_on, Progress()
        progress.doing = "looking whether the job has stopped"
        async with progress.told(), self._onlooker(last) as looking:
            waited = accepted and not refusal
            now = await until_ended(looking, progress, STOPS_WITHIN if waited else 0.0)
        outcome.orphaned = not now.ended
        if now.ended:
            text = how_it_ended(now)
        elif waited:
            text = f"the server accepted the cancel, but the job may still run: {now.why}"
        else:
            why = refusal or deletes[-1].message
            text = f"the job was not seen to stop, and may still run: {why}"
        if interrupted:
            last.phase, last.seconds = now.phase, time.monotonic() - last.began
        self._say(last, text, instead=interrupted)
        if not now.ended:
            how = "to stop it" if waited else "to stop it, when that is mended"
            self.watch.note(f"{how}:\n  {self._command(last)}")

    def left(self, outcome: Outcome) -> str:
        """What stays behind if nobody waits for the cancel."""
        last = outcome.tries[-1] if outcome.tries else None
        if last is None or not last.meta:
            return "a job that was being started may run on"
        if last.phase is not None and last.phase.terminal:
            return "the job had ended"
        return f"the job may run on; to stop it:\n  {self._command(last)}"

    @asynccontextmanager
    async def _onlooker(self, last: Try) -> AsyncIterator[Onlooker]:
        envelope = load(last.meta) if self.remote is None else None
        if envelope is None or envelope.parked is not None:
            yield AtServer(lambda: self.caller.get(last.attempt, last.meta))
            return
        async with at_vendor(envelope) as looking:
            yield looking

    def _say(self, last: Try, text: str, *, instead: bool) -> None:
        last.message = text if instead else f"{last.message}; {text}"
        self.watch.note(text)

    def _command(self, last: Try) -> str:
        return command_to_stop(last.meta, self.remote, last.attempt.output_prefix)


def _was_seen_to_end(last: Try) -> bool:
    seen = last.last.phase if last.last is not None else None
    return seen is not None and seen.terminal
