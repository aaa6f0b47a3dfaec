"""The agent service: every call of either Flyte generation ends up here."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pydantic import ValidationError

from flyteagents._errors import AgentError, JobNotFound, Unsupported, VendorError
from flyteagents._job import Job
from flyteagents._kernel.cancel import Cancelling
from flyteagents._kernel.create import Creating
from flyteagents._kernel.envelope import BrokenEnvelope, Envelope, dump, load
from flyteagents._kernel.host import AgentHost
from flyteagents._kernel.keys import key_of, prefix_of_task, wrote_by
from flyteagents._kernel.poll import POLL_LIMIT, Polling, by_age
from flyteagents._kernel.requests import Answer, CreateRequest, Deadline, JobRequest, Refused
from flyteagents._kernel.runtime import Runtime, identity_of, log
from flyteagents._kernel.soft_state import Seen
from flyteagents._kernel.spans import Rpc
from flyteagents._status import LogPage, Metric, MetricsQuery, Phase
from flyteagents._task import Key
from flyteagents._telemetry.tracing import trace_id
from flyteagents._vendor.budget import Budget


class Service:
    """The life cycle of jobs, for all agents."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._cancelling = Cancelling(runtime)
        self._creating = Creating(runtime, self._cancelling)
        self._polling = Polling(runtime, self._cancelling)

    async def create(self, request: CreateRequest, deadline: Deadline, span: Rpc) -> bytes:
        """CreateTask: the new `resource_meta`."""
        key, trace = self._names(request)
        span.begin(trace, key.hex, request.task_type, request.identity, created=time.time())
        envelope = await self._creating.create(request, key, f"{trace:032x}", deadline)
        return dump(envelope)

    async def run(self, request: CreateRequest, deadline: Deadline, span: Rpc) -> Answer:
        """ExecuteTaskSync: a terminal answer."""
        key, trace = self._names(request)
        span.begin(trace, key.hex, request.task_type, request.identity, created=time.time())
        return await self._creating.run(request, key, deadline)

    async def get(self, request: JobRequest, deadline: Deadline, span: Rpc) -> Answer:
        """GetTask: never fails for the sake of a vendor, an agent, or another release."""
        envelope = self._open(request, span)
        host = self.runtime.hosts.get(envelope.task_type)
        parked = envelope.parked or self.runtime.soft.verdicts.get(envelope.key)
        if parked is not None:
            outputs = None if parked.outputs is None else base64.b64decode(parked.outputs)
            return Answer(parked.phase, parked.message, outputs)
        if not self._admits(envelope):
            return Answer(
                Phase.FAILED, "this service no longer serves the task's project and domain"
            )
        job = self._job(host, envelope)
        if host is None or job is None:
            log.warning(
                "no agent here can read a job of %r; answering by its age", envelope.task_type
            )
            return by_age(envelope)
        seen = self.runtime.soft.seen(request)
        before = seen.phase
        answer = await self._polling.poll(host, job, envelope, request, seen, deadline)
        span.changed = answer.phase is not before
        return answer

    async def delete(self, request: JobRequest, deadline: Deadline, span: Rpc) -> None:
        """DeleteTask: OK for everything that does not run."""
        envelope = self._open(request, span)
        host = self.runtime.hosts.get(envelope.task_type)
        if envelope.parked is not None:
            return
        if not self._admits(envelope):
            log.error(
                "not cancelling a job of %s/%s: not served", envelope.project, envelope.domain
            )
            return
        seen = self.runtime.soft.seen(request)
        job = self._job(host, envelope)
        if host is None or job is None:
            self._not_ours(envelope, seen)
            return
        if seen.final is not None and (seen.cancel is None or seen.cancel.done()):
            return
        await self._cancelling.delete(host, job, envelope, request, seen, deadline)

    async def logs(self, request: JobRequest, token: str, lines: int, span: Rpc) -> LogPage:
        """GetTaskLogs: the page at `token`, or the first one."""
        host, job, envelope = self._existing(request, span)
        budget = Budget(until=time.monotonic() + POLL_LIMIT, limit=POLL_LIMIT)
        call = self.runtime.job_call(host, "logs", envelope, request, job, budget)
        with _as_refused(self.runtime, host, "logs"):
            return await self.runtime.operate(
                host, "logs", host.agent.logs, job, call, token, lines
            )

    async def metrics(
        self, request: JobRequest, query: MetricsQuery, span: Rpc
    ) -> Sequence[Metric]:
        """GetTaskMetrics."""
        host, job, envelope = self._existing(request, span)
        budget = Budget(until=time.monotonic() + POLL_LIMIT, limit=POLL_LIMIT)
        call = self.runtime.job_call(host, "metrics", envelope, request, job, budget)
        with _as_refused(self.runtime, host, "metrics"):
            return await self.runtime.operate(host, "metrics", host.agent.metrics, job, call, query)

    def _names(self, request: CreateRequest) -> tuple[Key, int]:
        key = key_of(self.runtime.settings.cluster, request.task_type, request.output_prefix)
        return key, trace_id(prefix_of_task(request.output_prefix) or key.hex)

    def _open(self, request: JobRequest, span: Rpc) -> Envelope:
        """Read `resource_meta`, ours or that of the connector which ran here before us."""
        try:
            envelope = load(request.meta)
        except BrokenEnvelope as error:
            raise Refused("INVALID_ARGUMENT", str(error)) from None
        if envelope is None:
            envelope = self._foreign(request)
        elif not envelope.task_type:
            envelope = replace(envelope, task_type=request.task_type)
        trace = int(envelope.trace or "0", 16) or trace_id(
            prefix_of_task(request.output_prefix) or envelope.key
        )
        span.begin(trace, envelope.key, envelope.task_type, identity_of(envelope), envelope.created)
        return envelope

    def _foreign(self, request: JobRequest) -> Envelope:
        host = self.runtime.host(request.task_type)
        try:
            text = request.meta.decode()
            values = json.loads(text)
            if host.models.job is None or not isinstance(values, dict):
                raise ValueError
            host.models.job.model_validate(values)
        except (ValueError, RecursionError):
            raise Refused(
                "INVALID_ARGUMENT", "resource_meta was written neither by this service nor by a "
                "connector whose jobs it can take over",
            ) from None  # fmt: skip
        key = key_of(self.runtime.settings.cluster, host.task_type, text)
        return Envelope(
            key=key.hex, task_type=host.task_type, created=0, foreign=True, job=values,
            wrote=wrote_by(request.output_prefix),
        )  # fmt: skip

    def _job(self, host: AgentHost | None, envelope: Envelope) -> Job | None:
        """The job model, checked again; None when this release cannot read it."""
        if host is None or host.models.job is None or envelope.job is None:
            return None
        try:
            return host.models.job.model_validate(envelope.job)
        except ValidationError:
            return None

    def _not_ours(self, envelope: Envelope, seen: Seen) -> None:
        """A DeleteTask for a job that this replica cannot read. Another one may, so the caller is
        to ask again; but it aborts the whole workflow after eleven refusals."""
        text = f"no agent here can cancel a job of {envelope.task_type[:80]!r}"
        seen.refused += 1
        if seen.refused <= 3:
            raise Refused("UNAVAILABLE", text)
        log.error("%s, and nobody else did: it may run on", text)
        label = self.runtime.label(envelope.task_type)
        self.runtime.telemetry.metrics.cancel_unconfirmed(label, "no agent")

    def _admits(self, envelope: Envelope) -> bool:
        """Whether the job is of a tenant that is served; other connectors' metas name none."""
        return envelope.foreign or self.runtime.allowed(envelope.project, envelope.domain)

    def _existing(self, request: JobRequest, span: Rpc) -> tuple[AgentHost, Job, Envelope]:
        envelope = self._open(request, span)
        host = self.runtime.host(envelope.task_type)
        job = self._job(host, envelope)
        if job is None or not self._admits(envelope):
            raise Refused("NOT_FOUND", "there is no job: the attempt ended before one was started")
        return host, job, envelope


@contextlib.contextmanager
def _as_refused(runtime: Runtime, host: AgentHost, operation: str) -> Iterator[None]:
    """Calls that Flyte does not depend on answer with the plain gRPC error."""
    codes: dict[type[AgentError], str] = {
        Unsupported: "UNIMPLEMENTED", JobNotFound: "NOT_FOUND", VendorError: "UNAVAILABLE",
    }  # fmt: skip
    try:
        yield
    except AgentError as error:
        code = next(
            (c for kind, c in codes.items() if isinstance(error, kind)), "FAILED_PRECONDITION"
        )
        raise Refused(code, runtime.tell(host, operation, error)) from None
    except Exception as error:  # noqa: BLE001 # the agent's own code
        raise Refused("INTERNAL", runtime.bug(host, operation, error)) from None
