"""DeleteTask: asks the vendor to stop the job, and sees to it that it stops.

Flyte 1 sends the next attempt 70 ms after a DeleteTask that was answered OK, and that attempt must
not take over a job that is about to die: so the answer waits. And it aborts the whole workflow
after eleven that failed (flytepropeller/pkg/controller/workflow/executor.go:478-520): so the answer
is OK in the end. What is left goes on without a caller.
"""

from __future__ import annotations

import asyncio
import functools
import json
import time

from flyteagents._errors import JobNotFound, Unavailable, VendorError
from flyteagents._job import Job
from flyteagents._kernel.answers import Answer, Refused
from flyteagents._kernel.call import ask
from flyteagents._kernel.deadline import Deadline
from flyteagents._kernel.detached import wait_within
from flyteagents._kernel.ends import record_end
from flyteagents._kernel.kernel import Kernel, log
from flyteagents._kernel.open_job import OpenJob
from flyteagents._kernel.requests import Connection
from flyteagents._kernel.returned import job_values
from flyteagents._kernel.served import ServedAgent
from flyteagents._kernel.verdicts import Verdict, verdict
from flyteagents._status import Phase, Status
from flyteagents._vendor.budget import Budget

PERSISTENCE = 600.0
"""Seconds for which a cancel goes on after its caller was answered."""
STEP_LIMIT = 30.0
"""Seconds that one look, or one request to cancel, may take: half of what a submit may, since the
next one repeats it."""
OVERDUE = 2 * STEP_LIMIT + 10.0
"""Seconds after which a step does not end any more, which is a look and a request."""
FIRST_PAUSE, GROWTH, LAST_PAUSE = 0.1, 1.5, 5.0
"""Seconds between looks: most jobs stop at once, and a caller waits for it; of those that do not,
ten minutes see some 130 looks."""


class Cancelling:
    """Cancels, answered and detached."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._unconfirmed = kernel.telemetry.metrics.cancels_unconfirmed
        self._found: dict[str, tuple[Connection, asyncio.Task[None]]] = {}

    def detach(self, opened: OpenJob) -> asyncio.Task[None]:
        """Stop a job in the background."""
        cancel = opened.seen.cancel
        if cancel is None:
            cancel = self._kernel.detached.start(self._to_its_end(opened), told=True)
            opened.seen.cancel_began(cancel)
        return cancel

    def detach_once(self, opened: OpenJob) -> asyncio.Task[None]:
        """Stop a job in the background that was found by its key. Each attempt that settles it
        opens it anew, and one cancel is enough for all of them."""
        name = _name(opened.served, opened.job)
        connection, cancel = self._found.get(name) or (None, None)
        # What other credentials cannot stop, these may.
        if cancel is None or connection != opened.connection:
            cancel = self.detach(opened)
            self._found[name] = opened.connection, cancel
            cancel.add_done_callback(functools.partial(self._forget, name))
        return cancel

    def _forget(self, name: str, cancel: asyncio.Task[None]) -> None:
        found = self._found.get(name)
        if found is not None and found[1] is cancel:  # and not another connection's
            del self._found[name]

    async def delete(self, opened: OpenJob, deadline: Deadline) -> str:
        """OK when the job has stopped, or was never there; where the vendor refuses, OK and its
        words. Raises Refused."""
        served, seen = opened.served, opened.seen
        # Kept here: another caller may begin the next one before this one wakes up.
        cancelling = self.detach(opened)
        if await wait_within(cancelling, deadline.left):
            error = None if cancelling.cancelled() else cancelling.exception()
            if error is None:
                return seen.not_stopped
            raise error
        # After an OK Flyte does not ask again, and this replica may go before the vendor says yes.
        if not seen.stop_accepted and not seen.nothing_to_stop:
            self._unconfirmed.add(served.task_type, "not accepted")
            text = f"{served.task_type}: the vendor has not accepted the cancel"
            why = f": {seen.not_stopped}" if seen.not_stopped else ""
            raise Refused("UNAVAILABLE", text + why)
        # Once, so that the next attempt waits a little longer.
        if not opened.envelope.unconfirmed and seen.tells_stopping():
            raise Refused("UNAVAILABLE", f"{served.task_type}: the job is stopping; ask again")
        self._unconfirmed.add(served.task_type, "still stopping")
        log.warning("%s: job %s has not stopped yet; going on", served.task_type, opened.job)
        return ""

    async def _to_its_end(self, opened: OpenJob) -> None:
        """`_until_stopped`, whose failure is told here: no caller may be left to hear of it.
        Raises Refused."""
        try:
            await self._until_stopped(opened)
        except asyncio.CancelledError:
            self._may_run_on(opened, "drained", "the drain has ended its cancel")
            raise
        except Exception as error:  # noqa: BLE001 # the agent's own code
            bug = verdict("cancel", error) is Verdict.BUG
            text = self._kernel.tell(opened.served, "cancel", error)
            self._may_run_on(opened, "failed", f"its cancel has ended: {text}")
            raise Refused("INTERNAL" if bug else "UNAVAILABLE", text) from None

    def _may_run_on(self, opened: OpenJob, why: str, text: str) -> None:
        task_type = opened.served.task_type
        self._unconfirmed.add(task_type, why)
        log.error("%s: job %s may run on: %s", task_type, opened.job, text)

    async def _until_stopped(self, opened: OpenJob) -> None:
        """Look and ask until the job has stopped. Raises VendorError, or a bug, when it cannot be
        known whether it has."""
        served, job = opened.served, opened.job
        end, pause = time.monotonic() + PERSISTENCE, FIRST_PAUSE
        name = _name(served, job)
        self._kernel.soft.stopping[name] += 1
        try:
            while not await self._try(opened, end):
                if time.monotonic() > end:
                    text = f"it did not stop in {PERSISTENCE:.0f} s"
                    return self._may_run_on(opened, "not stopped", text)
                await asyncio.sleep(pause)
                pause = min(pause * GROWTH, LAST_PAUSE)
            # One that nobody asks about has no trace; one that has ended by itself was recorded.
            if opened.envelope.trace and opened.seen.first_end():
                answer = Answer(Phase.ABORTED, opened.seen.not_stopped or "cancelled")
                record_end(self._kernel, opened.envelope, answer)
        finally:
            self._kernel.soft.stopping[name] -= 1
            if not self._kernel.soft.stopping[name]:
                del self._kernel.soft.stopping[name]

    async def _try(self, opened: OpenJob, end: float) -> bool:
        """One step. Whether there is nothing left to do."""
        served, seen = opened.served, opened.seen
        try:
            ended = await self._step_in_time(opened, end)
            seen.not_stopped = ""
            if ended:
                return True
            # What is left is only to watch it stop.
            return seen.stop_accepted and self._kernel.detached.draining
        except JobNotFound:
            seen.nothing_to_stop = True
            return not self._may_appear(opened)
        except VendorError as error:
            if time.monotonic() > end:
                raise
            log.info("%s: cancel of %s: %s", served.task_type, opened.job, error)
            seen.not_stopped = self._kernel.tell(served, "cancel", error)
            return False
        except Exception as error:
            what = verdict("cancel", error)
            if what is Verdict.BUG:
                raise
            # Asking again gives no right to it, and each error is one of the eleven.
            if what is Verdict.NOTED:
                text = self._kernel.tell(served, "cancel", error)
                if seen.stop_accepted:
                    text = (
                        f"its vendor took the cancel, and does not say whether it stopped: {text}"
                    )
                self._may_run_on(opened, "forbidden", text)
                seen.not_stopped = text
            return True

    async def _step_in_time(self, opened: OpenJob, end: float) -> bool:
        """`_step`, where it ends. One that goes on after its time is left behind: the job runs, and
        the next step may stop it. Raises Unavailable then."""
        served, budget = opened.served, Budget(end, limit=STEP_LIMIT, retries=False)
        step = self._kernel.detached.start(self._step(opened, budget), finish=False)
        try:
            if await wait_within(step, OVERDUE) or not served.left_behind.add("cancel", step):
                return await step
        finally:
            step.cancel()
        text = "cancel goes on after its time, since the agent catches the cancel that ends it"
        raise Unavailable(f"{served.task_type}: {text}")

    async def _step(self, opened: OpenJob, budget: Budget) -> bool:
        """Look, and ask for the cancel unless that was done. Whether the job has ended.

        Looking first keeps a cancel away from jobs that have ended: Flyte 2 sends DeleteTask an
        hour after success, and some vendors' cancel does more than stop."""
        seen = opened.seen
        status: Status | None = None
        try:
            status = await ask(opened.call("get", budget), limit=STEP_LIMIT)
            seen.nothing_to_stop = False
        except Exception as error:  # a job that cannot be seen may still be stopped
            if isinstance(error, JobNotFound) and self._may_appear(opened):
                # To ask for the cancel of what is not there would pass for having asked.
                raise
            if seen.stop_accepted:
                # A bug in the agent's `get` must not fail a cancel that the vendor has accepted.
                if verdict("cancel", error) is not Verdict.BUG:
                    raise
                self._kernel.tell(opened.served, "get", error)
                return True
        if status is not None:
            if status.phase is not None and status.phase.terminal:
                self._kernel.soft.saw_end(opened.envelope, status)
                return True
            # Whoever asked for it: another replica, or a person in the vendor's console.
            seen.stop_accepted |= status.cancelling
        if not seen.stop_accepted:
            await ask(opened.call("cancel", budget), limit=STEP_LIMIT)
            seen.stop_accepted = True
        return False

    @staticmethod
    def _may_appear(opened: OpenJob) -> bool:
        """Whether the job may be on its way to its vendor still: whoever sees it first, stops it,
        since nobody else will ask again."""
        return opened.envelope.unconfirmed and opened.young


def dying(kernel: Kernel, served: ServedAgent, job: Job) -> bool:
    """Whether this replica is stopping the job."""
    # By the job, not by a key: it may be another attempt's that has taken it over.
    return _name(served, job) in kernel.soft.stopping


def _name(served: ServedAgent, job: Job) -> str:
    return json.dumps([served.task_type, job_values(job)], sort_keys=True)
