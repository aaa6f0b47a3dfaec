"""A server is asked to cancel a job, and the job is looked at until it has stopped.

DeleteTask is answered OK in the end, also where credentials or the tenant are refused, since Flyte
1 aborts the whole workflow after eleven that failed. So an OK does not say that the job stopped.
"""

from __future__ import annotations

import asyncio
import base64
import shlex
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from flyteagents._cli import screen
from flyteagents._cli.endpoint import Remote
from flyteagents._cli.standing import Onlooker, Standing
from flyteagents._client.rpc import Rpc
from flyteagents._status import Phase

STOPS_WITHIN = 60.0
"""Seconds in which a job has to be seen to stop after its cancel was accepted."""
_CANCELS = 11
_PAUSE = 1.0
_TOLD_AFTER, _LONGER = 3.0, 1.5
"""Seconds until the first line that tells what goes on, and what each next pause grows by."""


class NotStopped(Exception):
    """The job was not seen to stop; the text says why."""


class Progress:
    """What goes on, told every few seconds on stderr; why, where it is not what was told last."""

    def __init__(self) -> None:
        self.doing = self.why = ""

    @asynccontextmanager
    async def told(self) -> AsyncIterator[None]:
        telling = asyncio.create_task(self._tell())
        try:
            yield
        finally:
            telling.cancel()

    async def _tell(self) -> None:
        began, pause, told = time.monotonic(), _TOLD_AFTER, ""
        while True:
            await asyncio.sleep(pause)
            pause *= _LONGER
            because = f": {self.why}" if self.why not in ("", told) else ""
            told = self.why
            elapsed = time.monotonic() - began
            screen.aside(f"{elapsed:6.1f} s  {self.doing}{because}", "bright_black")


class Cancel:
    """One cancel. delete: makes one DeleteTask."""

    def __init__(self, delete: Callable[[], Awaitable[Rpc]], onlooker: Onlooker) -> None:
        self._delete, self._onlooker = delete, onlooker
        self._progress = Progress()

    async def done(self) -> str:
        """What came of it. Raises NotStopped."""
        async with self._progress.told():
            self._progress.doing = "looking at the job"
            before = await self._onlooker.look()
            why = await self._ask()  # what the service still does for one that has ended ends too
            if before.ended:
                was = "been cancelled" if before.phase is Phase.ABORTED else "ended"
                return f"the job had {was} before"
            # Where the cancel is known to be refused, a look tells all that a minute would.
            now = await until_ended(self._onlooker, self._progress, 0.0 if why else STOPS_WITHIN)
        if now.ended:
            return how_it_ended(now)
        why = why or f"the server answered OK, but {now.why}"
        where = f" ({now.page})" if now.page else ""
        raise NotStopped(
            f"{why}\nwhen that is mended, cancel the job again; or stop it at its vendor{where}"
        )

    async def accepted(self) -> None:
        """Only until the server has accepted it. Raises NotStopped."""
        async with self._progress.told():
            why = await self._ask()
        if why:
            raise NotStopped(f"{why}\nwhen that is mended, cancel the job again")

    async def _ask(self) -> str:
        """DeleteTask, until it is answered OK: why the job may run on all the same; "" where the
        server knows no reason. Raises NotStopped."""
        for number in range(1, _CANCELS + 1):
            self._progress.doing = f"cancelling, try {number} of {_CANCELS}"
            rpc = await self._delete()
            if rpc.ok:
                return rpc.may_run_on
            self._progress.why = rpc.error
            await asyncio.sleep(_PAUSE)
        raise NotStopped(self._progress.why)


async def until_ended(
    onlooker: Onlooker, progress: Progress, within: float = STOPS_WITHIN
) -> Standing:
    """How the job stands when it has ended, or is not seen to end in time."""
    end = time.monotonic() + within
    while True:
        now = await onlooker.look()
        if now.ended or now.lasting or time.monotonic() > end:
            return now
        progress.doing, progress.why = "waiting for the job to stop", now.why
        await asyncio.sleep(_PAUSE)


def how_it_ended(now: Standing) -> str:
    """A sentence about a job that has ended after somebody wanted it cancelled."""
    if now.phase is Phase.ABORTED:
        return "the job was cancelled"
    if now.phase is Phase.SUCCEEDED:
        return "the job had succeeded before it could be cancelled"
    return f"the job has ended: {now.why}"


def command_to_stop(meta: bytes, remote: Remote | None = None, output_prefix: str = "") -> str:
    """The command that cancels a job, for a shell."""
    words = ["flyteagents", "cancel", base64.b64encode(meta).decode()]
    if remote is not None:
        words += ["--endpoint", remote.endpoint]
        words += ["--tls"] if remote.tls else []
        words += ["--ca", str(remote.ca)] if remote.ca else []
        words += ["--output-prefix", output_prefix] if output_prefix else []
    return shlex.join(words)
