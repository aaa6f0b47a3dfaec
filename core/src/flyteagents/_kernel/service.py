"""The agent service: every call of either Flyte generation ends up here, free of protobuf."""

from __future__ import annotations

import base64
import time
from dataclasses import replace

from flyteagents._errors import AgentError, JobNotFound, Unsupported, VendorError
from flyteagents._kernel.answers import Answer, Refused, warned
from flyteagents._kernel.call import ask
from flyteagents._kernel.cancel import Cancelling
from flyteagents._kernel.create import Creating
from flyteagents._kernel.deadline import Deadline
from flyteagents._kernel.ends import record_end
from flyteagents._kernel.envelope import Envelope
from flyteagents._kernel.flights import Flights
from flyteagents._kernel.kernel import Kernel, log
from flyteagents._kernel.keys import key_of, prefix_of_task
from flyteagents._kernel.open_job import OpenJob
from flyteagents._kernel.opening import Known, know, open_job
from flyteagents._kernel.poll import POLL_LIMIT, Polling, by_age
from flyteagents._kernel.requests import CreateRequest, JobRequest
from flyteagents._kernel.seen import Seen
from flyteagents._kernel.soft_state import Bounded
from flyteagents._status import LogPage, Phase, lines_without_keys
from flyteagents._task import Key
from flyteagents._telemetry.tracing import Rpc, trace_id
from flyteagents._vendor.budget import Budget

ASKED = 5000
"""Jobs that a private server remembers."""
# Calls that Flyte does not depend on answer with the plain gRPC error.
_CODES: dict[type[AgentError], str] = {
    Unsupported: "UNIMPLEMENTED",
    JobNotFound: "NOT_FOUND",
    VendorError: "UNAVAILABLE",
    AgentError: "FAILED_PRECONDITION",
}


class Service:
    """The life cycle of jobs, for all agents."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._cancelling = Cancelling(kernel)
        self._flights = Flights(kernel, self._cancelling)
        self._creating = Creating(kernel, self._flights)
        self._polling = Polling(kernel, self._cancelling, self._flights.resume)
        # What `abandon` has to know, with the connections, without which nobody may cancel a job. A
        # server for all keeps none.
        self._asked: Bounded[JobRequest] = Bounded(ASKED, texts=JobRequest.texts)

    async def create(self, request: CreateRequest, deadline: Deadline, rpc: Rpc) -> bytes:
        """CreateTask: the new `resource_meta`."""
        key, trace = self._begin(request, rpc)
        meta = await self._creating.create(request, key, f"{trace:032x}", deadline)
        if self.kernel.private:
            prefix, connection = request.output_prefix, request.connection
            self._asked.put(meta, JobRequest(request.task_type, meta, prefix, connection))
        return meta

    async def run(self, request: CreateRequest, deadline: Deadline, rpc: Rpc) -> Answer:
        """ExecuteTaskSync: a terminal answer."""
        key, trace = self._begin(request, rpc)
        return await self._creating.run(request, key, f"{trace:032x}", deadline)

    async def get(self, request: JobRequest, deadline: Deadline, rpc: Rpc) -> Answer:
        """GetTask: never fails for the sake of a vendor, an agent, or another release."""
        known = self._know(request, rpc)
        if self.kernel.private:
            self._asked.put(request.meta, request)
        opened = self._opened(known, request)
        if isinstance(opened, Answer):
            answer = opened
        else:
            before = opened.seen.phase
            answer = await self._polling.poll(opened, deadline)
            rpc.changed = answer.phase is not before
        # With every answer: Flyte 1 shows the custom info of the first one while a job runs, and
        # that of the last one when it has ended.
        return warned(answer, known.envelope.warnings)

    def _opened(self, known: Known, request: JobRequest) -> OpenJob | Answer:
        """The job that is to be polled, or the answer where none is."""
        envelope = known.envelope
        late = self.kernel.soft.late_ends.get(envelope.key)
        parked = envelope.parked or late
        if parked is not None:
            outputs = None if parked.outputs is None else base64.b64decode(parked.outputs)
            answer = Answer(parked.phase, parked.message, outputs)
            # One that was parked by its create was recorded there.
            if late and self.kernel.soft.seen(request, envelope.task_type).first_end():
                record_end(self.kernel, envelope, answer)
            return answer
        if not known.admitted:
            return Answer(
                Phase.FAILED, "this service no longer serves the task's project and domain"
            )
        seen = self.kernel.soft.seen(request, envelope.task_type)
        opened = open_job(known, request, seen)
        if opened is None:
            log.warning(
                "no agent here can read a job of %r; answering by its age", envelope.task_type
            )
            # In a rollout another replica may read it, and of errors Flyte forgives five in all
            # (flyteplugins .../internal/webapi/cache.go:99-110).
            return by_age(envelope)
        return opened

    async def delete(self, request: JobRequest, deadline: Deadline, rpc: Rpc) -> str:
        """DeleteTask: OK for everything that does not run. Where it is OK and the job may run on
        all the same, why."""
        known = self._know(request, rpc)
        envelope = known.envelope
        if envelope.parked is not None:
            return ""
        self._flights.was_deleted(envelope.key)
        if not known.admitted:
            # OK all the same: errors here have Flyte 1 abort the whole workflow
            # (flytepropeller/pkg/controller/workflow/executor.go:478-520).
            log.error(
                "not cancelling a job of %s/%s: not served", envelope.project, envelope.domain
            )
            self._may_run_on(envelope, "not served")
            return f"this service does not serve {envelope.project}/{envelope.domain}"
        seen = self.kernel.soft.seen(request, envelope.task_type)
        opened = open_job(known, request, seen)
        if opened is None:
            return self._not_ours(envelope, seen)
        # A poll that gave the job up made that its end, while the job is still being stopped.
        if seen.final is None or seen.cancel is not None:
            if self.kernel.soft.late_ends.get(envelope.key) is not None:
                # The vendor has said no, so what is not there now is not waited for.
                confirmed = replace(envelope, unconfirmed=False)
                opened = replace(opened, envelope=confirmed)
            return await self._cancelling.delete(opened, deadline)
        return ""

    def abandon(self) -> None:
        """Cancel all jobs that were created or polled here and are not known to have ended:
        whoever asked for them is gone. A drain waits until their vendors have accepted that."""
        jobs = [self._opened(know(self.kernel, each), each) for each in self._asked.values()]
        for opened in (*self._flights.nobody_comes(), *jobs):
            if isinstance(opened, OpenJob) and opened.seen.final is None:
                kind, job = opened.served.task_type, opened.job
                log.warning("%s: cancelling job %s: nobody waits for it", kind, job)
                self._cancelling.detach(opened)

    async def logs(self, request: JobRequest, token: str, lines: int, rpc: Rpc) -> LogPage:
        """GetTaskLogs: the page at `token`, or the first one."""
        known = self._know(request, rpc)
        served = self.kernel.served(known.envelope.task_type)
        opened = open_job(known, request, Seen())  # nothing to remember
        if opened is None or not known.admitted:
            raise Refused("NOT_FOUND", "there is no job: the attempt ended before one was started")
        call = opened.call("logs", Budget(time.monotonic() + POLL_LIMIT, limit=POLL_LIMIT))
        try:
            page: LogPage = await ask(call, token, lines)
        except Exception as error:  # noqa: BLE001 # the agent's own code
            codes = (code for kind, code in _CODES.items() if isinstance(error, kind))
            text = self.kernel.tell(served, "logs", error)
            raise Refused(next(codes, "INTERNAL"), text) from None
        # Here, where the lines are together still: the wire sends and masks one after another.
        return replace(page, lines=lines_without_keys(page.lines))

    def _begin(self, request: CreateRequest, rpc: Rpc) -> tuple[Key, int]:
        """The key of an attempt, and the trace of its task, which its spans join from here on."""
        key = key_of(self.kernel.settings.cluster, request.task_type, request.output_prefix)
        trace = trace_id(prefix_of_task(request.output_prefix) or key.hex)
        tracing = self.kernel.telemetry.tracing
        rpc.begin(tracing.attempt(trace, key.hex, request.task_type, request.identity, time.time()))
        return key, trace

    def _know(self, request: JobRequest, rpc: Rpc) -> Known:
        """What the call is about; its spans join the trace of its task from here on."""
        known = request.known or know(self.kernel, request)
        rpc.begin(known.attempt)
        return known

    def _not_ours(self, envelope: Envelope, seen: Seen) -> str:
        """A DeleteTask for a job that this replica cannot read: why the job may run on."""
        text = f"no agent here can cancel a job of {envelope.task_type[:80]!r}"
        if seen.refuses_cancel():
            raise Refused("UNAVAILABLE", text)
        log.error("%s, and nobody else did: it may run on", text)
        self._may_run_on(envelope, "no agent")
        return text

    def _may_run_on(self, envelope: Envelope, why: str) -> None:
        label = self.kernel.label(envelope.task_type)
        self.kernel.telemetry.metrics.cancels_unconfirmed.add(label, why)
