"""DeleteTask: asks the vendor to stop the job, and sees to it that it stops."""

from __future__ import annotations

import asyncio
import json
import logging
import time

from flyteagents._errors import JobNotFound, VendorError
from flyteagents._job import Job
from flyteagents._kernel.detached import wait_within
from flyteagents._kernel.envelope import Envelope
from flyteagents._kernel.host import AgentHost, KernelCall
from flyteagents._kernel.requests import Connection, Deadline, JobRequest, Refused
from flyteagents._kernel.runtime import Runtime, identity_of
from flyteagents._kernel.soft_state import Seen
from flyteagents._kernel.verdicts import Verdict, verdict
from flyteagents._task import Identity
from flyteagents._vendor.budget import Budget

log = logging.getLogger("flyteagents")
PERSISTENCE = 600.0
"""Seconds for which a cancel goes on after its caller was answered."""
YOUNG = 180.0
"""Seconds in which a job that was submitted may still become visible at its vendor."""


class Cancelling:
    """Cancels, answered and detached."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def dying(self, host: AgentHost, job: Job) -> bool:
        """Whether this replica is stopping the job."""
        return _name(host, job) in self._runtime.soft.cancelling

    def detach(
        self, host: AgentHost, job: Job, identity: Identity, connection: Connection,
        seen: Seen | None = None, appears_until: float = 0.0,
    ) -> asyncio.Task[None]:  # fmt: skip
        """Stop a job in the background."""
        seen = seen or Seen()
        if seen.cancel is None or seen.cancel.done():
            seen.accepted = False
            budget = Budget(until=time.monotonic() + PERSISTENCE, limit=30.0, retries=False)
            call = KernelCall(host, "cancel", identity, budget, job, connection=connection)
            seen.cancel = self._runtime.detached.start(
                self._until_stopped(host, job, call, seen, appears_until)
            )
        return seen.cancel

    async def delete(
        self, host: AgentHost, job: Job, envelope: Envelope, request: JobRequest, seen: Seen,
        deadline: Deadline,
    ) -> None:  # fmt: skip
        """OK when the job has stopped, or was never there. Raises Refused."""
        appears_until = envelope.created + YOUNG if envelope.unconfirmed else 0.0
        # Kept here: another caller may begin the next one before this one wakes up.
        cancelling = self.detach(
            host, job, identity_of(envelope), request.connection, seen, appears_until
        )
        if await wait_within(cancelling, deadline.left):
            error = None if cancelling.cancelled() else cancelling.exception()
            if error is None:
                return
            if verdict("cancel", error) is Verdict.BUG:
                raise Refused("INTERNAL", self._runtime.bug(host, "cancel", error))
            raise Refused("UNAVAILABLE", self._runtime.tell(host, "cancel", error))
        metrics = self._runtime.telemetry.metrics
        if not seen.accepted:
            metrics.cancel_unconfirmed(host.task_type, "not accepted")
            raise Refused(
                "UNAVAILABLE", f"{host.task_type}: the vendor has not accepted the cancel"
            )
        if not seen.told_unavailable and not envelope.unconfirmed:
            # Once, so that the next attempt waits a little longer; the caller gives up a whole
            # workflow after eleven of these.
            seen.told_unavailable = True
            raise Refused("UNAVAILABLE", f"{host.task_type}: the job is stopping; ask again")
        metrics.cancel_unconfirmed(host.task_type, "still stopping")
        log.warning("%s: job %s has not stopped yet; going on", host.task_type, job)

    async def _until_stopped(
        self, host: AgentHost, job: Job, call: KernelCall, seen: Seen, appears_until: float
    ) -> None:
        name, tries = _name(host, job), 0
        end = call.budget.until
        self._runtime.soft.cancelling.add(name)
        try:
            while True:
                try:
                    if await self._step(host, job, call, seen):
                        return
                    if seen.accepted and self._runtime.detached.draining:
                        return  # what is left is only to watch it stop
                except JobNotFound:
                    if time.time() >= appears_until:
                        return
                    seen.accepted = True  # there is nothing to accept it yet
                except VendorError as error:
                    if time.monotonic() > end or self._runtime.detached.draining:
                        raise
                    log.info("%s: cancel of %s: %s", host.task_type, job, error)
                except Exception as error:
                    what = verdict("cancel", error)
                    if what is Verdict.BUG:
                        raise
                    if what is Verdict.NOTED:
                        log.error("%s: may not cancel %s: %s", host.task_type, job, error)
                        self._runtime.telemetry.metrics.cancel_unconfirmed(
                            host.task_type, "forbidden"
                        )
                    return
                if time.monotonic() > end:
                    log.error("%s: job %s did not stop in %d s", host.task_type, job, PERSISTENCE)
                    return
                await asyncio.sleep(min(0.1 * 1.5**tries, 5.0))
                tries += 1
        finally:
            self._runtime.soft.cancelling.discard(name)

    async def _step(self, host: AgentHost, job: Job, call: KernelCall, seen: Seen) -> bool:
        """Look, and ask for the cancel unless that was done. Whether the job has ended.

        Looking first keeps a cancel away from jobs that have ended: Flyte 2 sends DeleteTask an
        hour after success, and some vendors' cancel does more than stop."""
        operate = self._runtime.operate
        try:
            status = await operate(host, "get", host.agent.get, job, call, limit=30.0)
        except Exception as error:  # a job that cannot be seen may still be stopped
            if seen.accepted:
                if verdict("cancel", error) is Verdict.BUG:
                    self._runtime.bug(host, "get", error)
                    return True
                raise
            status = None
        if status is not None and status.phase is not None and status.phase.terminal:
            return True
        if status is not None and status.cancelling:
            seen.accepted = True
        if not seen.accepted:
            await operate(host, "cancel", host.agent.cancel, job, call, limit=30.0)
            seen.accepted = True
        return False


def _name(host: AgentHost, job: Job) -> str:
    return json.dumps([host.task_type, job.model_dump(mode="json")], sort_keys=True)
