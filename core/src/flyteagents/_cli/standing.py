"""How a job stands at its vendor, asked of its agent in this process.

A server cannot be asked: GetTask answers from memory where the vendor refuses, and DeleteTask
answers OK where nothing may be cancelled. Both are right for Flyte, and prove nothing to a user.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pydantic import ValidationError

from flyteagents._cli.listing import agent_for, kernel_settings
from flyteagents._errors import AgentError, JobNotFound, VendorError
from flyteagents._kernel.call import ask
from flyteagents._kernel.envelope import Envelope
from flyteagents._kernel.open_job import OpenJob
from flyteagents._kernel.served import ServedAgent
from flyteagents._redact import redact
from flyteagents._status import Phase, Status
from flyteagents._tenants import fits_tenant
from flyteagents._vendor.budget import Budget

_LOOK = 10.0
"""Seconds that one look may take."""


@dataclass(frozen=True)
class Standing:
    """phase: None where it could not be seen. why: what there is to say while the job has not
    ended. lasting: another look would see the same."""

    phase: Phase | None = None
    why: str = ""
    lasting: bool = False

    @property
    def ended(self) -> bool:
        return self.phase is not None and self.phase.terminal


class Onlooker:
    """Looks at one job. opened: None where no agent here can read it."""

    def __init__(self, opened: OpenJob | None) -> None:
        self._opened = opened

    async def look(self) -> Standing:
        """How the job stands; never fails."""
        if self._opened is None:
            return Standing(why="no agent here can read it", lasting=True)
        budget = Budget(time.monotonic() + _LOOK, limit=_LOOK, retries=False)
        try:
            status: Status = await ask(self._opened.call("get", budget), limit=_LOOK)
        except JobNotFound:
            # One that was answered before its vendor had may be on its way still.
            comes = self._opened.envelope.unconfirmed and self._opened.young
            return Standing(why="its vendor does not know it", lasting=not comes)
        except Exception as error:  # noqa: BLE001 # the agent's own code
            lasting = isinstance(error, AgentError) and not isinstance(error, VendorError)
            return Standing(why=redact(str(error) or type(error).__name__), lasting=lasting)
        name = status.phase.name if status.phase is not None else "in a state without a name"
        return Standing(status.phase, f"it is {name}")


def refused(envelope: Envelope) -> str:
    """Why a server with our settings would leave the job alone; "" where it would not."""
    allow = kernel_settings().allow
    if any(fits_tenant(pattern, envelope.project, envelope.domain) for pattern in allow):
        return ""
    return (
        f"FLYTEAGENTS_ALLOW is {','.join(allow)}, and the job is of "
        f"{envelope.project}/{envelope.domain}"
    )


@asynccontextmanager
async def onlooker(envelope: Envelope) -> AsyncIterator[Onlooker]:
    """Who can look at a job of this envelope's."""
    served = _served(envelope.task_type)
    if served is None:
        yield Onlooker(None)
        return
    await served.open()
    try:
        yield Onlooker(_opened(served, envelope))
    finally:
        await served.close()


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
