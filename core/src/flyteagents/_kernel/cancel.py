"""DeleteTask: asks the vendor to stop the job, and sees to it that it stops."""

from __future__ import annotations

import asyncio
import json
import time

from flyteagents._errors import JobNotFound, VendorError
from flyteagents._job import Job
from flyteagents._kernel.detached import wait_within
from flyteagents._kernel.host import AgentHost, KernelCall
from flyteagents._kernel.open_job import OpenJob
from flyteagents._kernel.requests import Deadline, Refused
from flyteagents._kernel.runtime import Runtime, log
from flyteagents._kernel.verdicts import Verdict, verdict
from flyteagents._vendor.budget import Budget

PERSISTENCE = 600.0
"""Seconds for which a cancel goes on after its caller was answered."""
YOUNG = 180.0
"""Seconds in which a job that was submitted may still become visible at its vendor."""


def dying(runtime: Runtime, host: AgentHost, job: Job) -> bool:
    """Whether this replica is stopping the job."""
    return _name(host, job) in runtime.soft.cancelling


class Cancelling:
    """Cancels, answered and detached."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._unconfirmed = runtime.telemetry.metrics.cancels_unconfirmed

    def detach(self, opened: OpenJob) -> asyncio.Task[None]:
        """Stop a job in the background."""
        seen = opened.seen
        if seen.cancel is None or seen.cancel.done():
            seen.accepted = False
            seen.cancel = self._runtime.detached.start(self._until_stopped(opened))
        return seen.cancel

    async def delete(self, opened: OpenJob, deadline: Deadline) -> None:
        """OK when the job has stopped, or was never there. Raises Refused."""
        host, seen = opened.host, opened.seen
        # Kept here: another caller may begin the next one before this one wakes up.
        cancelling = self.detach(opened)
        if await wait_within(cancelling, deadline.left):
            error = None if cancelling.cancelled() else cancelling.exception()
            if error is None:
                return
            bug = verdict("cancel", error) is Verdict.BUG
            text = self._runtime.tell(host, "cancel", error)
            raise Refused("INTERNAL" if bug else "UNAVAILABLE", text)
        if not seen.accepted:
            self._unconfirmed.add(host.task_type, "not accepted")
            raise Refused(
                "UNAVAILABLE", f"{host.task_type}: the vendor has not accepted the cancel"
            )
        if not seen.told_unavailable and not opened.envelope.unconfirmed:
            # Once, so that the next attempt waits a little longer; the caller gives up a whole
            # workflow after eleven of these.
            seen.told_unavailable = True
            raise Refused("UNAVAILABLE", f"{host.task_type}: the job is stopping; ask again")
        self._unconfirmed.add(host.task_type, "still stopping")
        log.warning("%s: job %s has not stopped yet; going on", host.task_type, opened.job)

    async def _until_stopped(self, opened: OpenJob) -> None:
        host, job, seen = opened.host, opened.job, opened.seen
        end, tries, detached = time.monotonic() + PERSISTENCE, 0, self._runtime.detached
        call = opened.call("cancel", Budget(end, limit=30.0, retries=False))
        name = _name(host, job)
        self._runtime.soft.cancelling.add(name)
        try:
            while True:
                try:
                    if await self._step(opened, call):
                        return
                    if seen.accepted and detached.draining:
                        return  # what is left is only to watch it stop
                except JobNotFound:
                    if not opened.envelope.unconfirmed or opened.age >= YOUNG:
                        return
                    seen.accepted = True  # there is nothing to accept it yet
                except VendorError as error:
                    if time.monotonic() > end:
                        raise
                    log.info("%s: cancel of %s: %s", host.task_type, job, error)
                except Exception as error:
                    what = verdict("cancel", error)
                    if what is Verdict.BUG:
                        raise
                    if what is Verdict.NOTED:
                        log.error("%s: may not cancel %s: %s", host.task_type, job, error)
                        self._unconfirmed.add(host.task_type, "forbidden")
                    return
                if time.monotonic() > end:
                    log.error("%s: job %s did not stop in %d s", host.task_type, job, PERSISTENCE)
                    return
                await asyncio.sleep(min(0.1 * 1.5**tries, 5.0))
                tries += 1
        finally:
            self._runtime.soft.cancelling.discard(name)

    async def _step(self, opened: OpenJob, call: KernelCall) -> bool:
        """Look, and ask for the cancel unless that was done. Whether the job has ended.

        Looking first keeps a cancel away from jobs that have ended: Flyte 2 sends DeleteTask an
        hour after success, and some vendors' cancel does more than stop."""
        host, job, seen, status = opened.host, opened.job, opened.seen, None
        operate = self._runtime.operate
        try:
            status = await operate(host, "get", host.agent.get, job, call, limit=30.0)
        except Exception as error:  # a job that cannot be seen may still be stopped
            if seen.accepted:
                if verdict("cancel", error) is not Verdict.BUG:
                    raise
                self._runtime.tell(host, "get", error)
                return True
        if status is not None:
            if status.phase is not None and status.phase.terminal:
                return True
            seen.accepted |= status.cancelling
        if not seen.accepted:
            await operate(host, "cancel", host.agent.cancel, job, call, limit=30.0)
            seen.accepted = True
        return False


def _name(host: AgentHost, job: Job) -> str:
    return json.dumps([host.task_type, job.model_dump(mode="json")], sort_keys=True)
