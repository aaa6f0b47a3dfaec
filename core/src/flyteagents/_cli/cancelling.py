"""What `flyteagents cancel` does: asks a server to cancel, and sees for itself what came of it.

DeleteTask is answered OK in the end, also where credentials or the tenant are refused, since Flyte
1 aborts the whole workflow after eleven that failed. So an OK does not say that the job stopped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from flyteagents._cli import screen
from flyteagents._cli.standing import Onlooker, Standing
from flyteagents._client.rpc import Rpc
from flyteagents._status import Phase

_CANCELS = 11
_STOPS_WITHIN = 60.0
"""Seconds in which a job has to be seen to stop after its cancel was accepted."""
_PAUSE = 1.0
_TOLD_EVERY = 3.0
"""Seconds between two lines that tell what goes on."""


class NotStopped(Exception):
    """The job was not seen to stop; the text says why."""


class Cancel:
    """One cancel. delete: makes one DeleteTask. onlooker: None at a server of somebody else's,
    whose vendor's credentials we may not have."""

    def __init__(
        self, delete: Callable[[], Awaitable[Rpc]], onlooker: Onlooker | None = None
    ) -> None:
        self._delete, self._onlooker = delete, onlooker
        self._doing = ""

    async def done(self) -> str:
        """What came of it. Raises NotStopped."""
        telling = asyncio.create_task(self._tell())
        try:
            return await self._seen() if self._onlooker is not None else await self._accepted()
        finally:
            telling.cancel()

    async def _accepted(self) -> str:
        await self._ask()
        return (
            "the server accepted the cancel; where it may not cancel the job, its log says so and "
            "the job may still run"
        )

    async def _seen(self) -> str:
        assert self._onlooker is not None
        self._doing = "looking at the job"
        if (await self._onlooker.look()).ended:
            await self._ask()  # what the service still does for it, such as watching, ends too
            return "the job had ended before"
        await self._ask()
        now = await self._until_ended(self._onlooker)
        if not now.ended:
            raise NotStopped(f"the server answered OK, but {now.why}")
        if now.phase is Phase.SUCCEEDED:
            return "the job had succeeded before it could be cancelled"
        return "the job was cancelled"

    async def _ask(self) -> None:
        """DeleteTask, until it is answered OK."""
        error = ""
        for number in range(1, _CANCELS + 1):
            self._doing = f"cancelling, try {number} of {_CANCELS}{error and f': {error}'}"
            rpc = await self._delete()
            if rpc.ok:
                return
            error = rpc.error
            await asyncio.sleep(_PAUSE)
        raise NotStopped(error)

    async def _until_ended(self, onlooker: Onlooker) -> Standing:
        end = time.monotonic() + _STOPS_WITHIN
        while True:
            now = await onlooker.look()
            if now.ended or now.lasting or time.monotonic() > end:
                return now
            self._doing = f"waiting for the job to stop: {now.why}"
            await asyncio.sleep(_PAUSE)

    async def _tell(self) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(_TOLD_EVERY)
            screen.aside(f"{time.monotonic() - began:6.1f} s  {self._doing}", "bright_black")
