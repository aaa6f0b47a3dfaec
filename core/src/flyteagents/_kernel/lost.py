"""Jobs that nobody will ask about any more: looked for under the names that we know, and stopped.

Of a submit without an answer nobody knows whether it has arrived. Where an attempt can follow, that
one looks (`settle`); where none can, a job that runs on is paid for and seen by no one.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

from flyteagents._agent import Agent
from flyteagents._job import Job
from flyteagents._kernel.call import CALL_LIMIT, ask_patiently
from flyteagents._kernel.cancel import Cancelling
from flyteagents._kernel.detached import pauses
from flyteagents._kernel.envelope import new_envelope
from flyteagents._kernel.flight import Flight
from flyteagents._kernel.kernel import Kernel, log
from flyteagents._kernel.lane import RAISED
from flyteagents._kernel.open_job import YOUNG, OpenJob
from flyteagents._task import Task
from flyteagents._vendor.budget import Budget


async def stop_lost(
    kernel: Kernel, cancelling: Cancelling, flight: Flight, task: Task[Any]
) -> None:
    """Stop the job that an attempt may have: the flight's own, or an earlier one's."""
    served = flight.served
    agent = served.agent
    try:
        job = agent.handle(task)
        if job is None and type(agent).find is not Agent.find:
            job = await _found(kernel, flight, task)
    except RAISED as error:  # the agent's own code
        text = kernel.tell(served, "find", error)
        log.warning("%s: cannot find a job that may run: %s", served.task_type, text)
        if task is not flight.task:  # the flight's own is counted where its submit was lost
            kernel.telemetry.metrics.abandoned.add(served.task_type)
        return
    if job is None:
        return
    envelope = new_envelope(task.identity, task.key.hex, task.type)
    # The submit may arrive after the first look: unconfirmed, the cancel waits for its job.
    envelope = replace(envelope, unconfirmed=True)
    opened = OpenJob(served, job, envelope, task.output_prefix, flight.connection)
    cancelling.detach(opened)


async def _found(kernel: Kernel, flight: Flight, task: Task[Any]) -> Job | None:
    """Its job, as soon as the vendor shows it: an index lags behind the writes, and the submit may
    be on its way still."""
    end, pause = time.monotonic() + YOUNG - CALL_LIMIT, pauses()
    while True:
        # Not the flight's budget, which is over.
        call = replace(flight.call("find", task), budget=Budget(end))
        job: Job | None = await ask_patiently(call)
        left = end - time.monotonic()
        if job is not None or left <= 0 or kernel.detached.draining:
            return job
        await asyncio.sleep(min(next(pause), left))
