"""How a job stands: whether it has stopped, after a server was asked to cancel it.

DeleteTask proves nothing: it is answered OK in the end, also where nothing may be cancelled, with
the reason where the server knows one. So the vendor is asked, by the job's agent in this process.
At a server of somebody else's, whose vendor's credentials we may not have, GetTask has to do: what
it says of an end is so, and while the vendor refuses it answers from memory, that the job runs.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from pydantic import ValidationError

from flyteagents._cli.listing import agent_for, kernel_settings
from flyteagents._client.rpc import Rpc
from flyteagents._errors import AgentError, JobNotFound, VendorError
from flyteagents._kernel.call import ask
from flyteagents._kernel.envelope import Envelope
from flyteagents._kernel.open_job import OpenJob
from flyteagents._kernel.served import ServedAgent
from flyteagents._redact import redact
from flyteagents._status import Link, Phase, Status
from flyteagents._tenants import fits_any
from flyteagents._vendor.budget import Budget

_LOOK = 10.0
"""Seconds that one look may take."""


@dataclass(frozen=True)
class Standing:
    """phase: None where it could not be seen; ABORTED for a job that was cancelled. why: what was
    seen, or why nothing was. lasting: another look would see the same. page: the job's address at
    its vendor, where it has one."""

    phase: Phase | None = None
    why: str = ""
    lasting: bool = False
    page: str = ""

    @property
    def ended(self) -> bool:
        return self.phase is not None and self.phase.terminal


class Onlooker(Protocol):
    """Looks at one job."""

    async def look(self) -> Standing:
        """How the job stands; never fails."""


class AtServer:
    """By a server's GetTask. get: makes one, with the task's own output prefix: what an answer
    without it comes to could be remembered, and end the task for Flyte."""

    def __init__(self, get: Callable[[], Awaitable[Rpc]]) -> None:
        self._get = get

    async def look(self) -> Standing:
        rpc = await self._get()
        if not rpc.ok:
            return Standing(why=rpc.error)
        text = f": {rpc.text}" if rpc.text else ""
        return Standing(
            Phase.ABORTED if rpc.cancelled else rpc.phase,
            f"GetTask answers {rpc.phase_name}{text}",
            page=_page(rpc.links),
        )


class AtVendor:
    """By the job's agent. opened: None where no agent here can look, for which `why` says why."""

    def __init__(self, opened: OpenJob | None, why: str = "no agent here can read it") -> None:
        self._opened, self._why = opened, why

    async def look(self) -> Standing:
        if self._opened is None:
            return Standing(why=self._why, lasting=True)
        budget = Budget(time.monotonic() + _LOOK, limit=_LOOK, retries=False)
        try:
            status: Status = await ask(self._opened.call("get", budget), limit=_LOOK)
        except JobNotFound:
            # One that was answered before its vendor had may be on its way still.
            comes = self._opened.envelope.unconfirmed and self._opened.young
            return Standing(why="its vendor does not know it", lasting=not comes)
        except Exception as error:  # noqa: BLE001 # the agent's own code
            # What the network does passes; a refusal does not, and a bug hardly does.
            passes = isinstance(error, VendorError | OSError)
            return Standing(why=redact(_words(error)), lasting=not passes)
        name = status.phase.name if status.phase is not None else "in a state without a name"
        text = f": {redact(status.message)}" if status.message else ""
        links: Sequence[Link] = ()
        with suppress(Exception):  # the agent's own code, and no reason to know less
            links = self._opened.served.agent.links(self._opened.job)
        return Standing(status.phase, f"it is {name}{text}", page=_page(links))


def _page(links: Sequence[Link]) -> str:
    return redact(links[0].uri) if links else ""


def refused(envelope: Envelope) -> str:
    """Why a server with our settings would leave the job alone; "" where it would not."""
    allow = kernel_settings().allow
    if fits_any(allow, envelope.project, envelope.domain):
        return ""
    return (
        f"FLYTEAGENTS_ALLOW is {','.join(allow)}, and the job is of "
        f"{envelope.project}/{envelope.domain}"
    )


@asynccontextmanager
async def at_vendor(envelope: Envelope) -> AsyncIterator[Onlooker]:
    """Who can look at a job of this envelope's."""
    served = _served(envelope.task_type)
    if served is None:
        yield AtVendor(None)
        return
    try:
        yield await _looking(served, envelope)
    finally:
        await served.close()


async def _looking(served: ServedAgent, envelope: Envelope) -> AtVendor:
    try:
        await served.open()
    except Exception as error:  # noqa: BLE001 # the agent's own code
        return AtVendor(None, f"its agent cannot be opened here: {redact(_words(error))}")
    return AtVendor(_opened(served, envelope))


def _words(error: Exception) -> str:
    kind = type(error).__name__
    return str(error) if isinstance(error, AgentError) else f"{kind}: {error}"


def _served(task_type: str) -> ServedAgent | None:
    settings = kernel_settings()
    found = agent_for(task_type, settings)
    return None if found is None else ServedAgent(*found, settings)


def _opened(served: ServedAgent, envelope: Envelope) -> OpenJob | None:
    model = served.offered.models.job
    if model is None or envelope.job is None:
        return None
    try:
        job = model.model_validate(envelope.job)
    except ValidationError:
        return None
    # What the job wrote is not looked at: nobody here knows the task's output prefix.
    return OpenJob(served, job, envelope, output_prefix="/unknown")
