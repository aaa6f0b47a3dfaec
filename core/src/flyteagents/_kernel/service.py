"""The agent service: every call of either Flyte generation ends up here."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from flyteagents._errors import AgentError, JobNotFound, Unsupported, VendorError
from flyteagents._job import Job
from flyteagents._kernel.cancel import Cancelling
from flyteagents._kernel.create import Creating
from flyteagents._kernel.envelope import UNKNOWN, BrokenEnvelope, Envelope, dump, load
from flyteagents._kernel.host import AgentHost
from flyteagents._kernel.keys import attempt_number, key_of, prefix_of_task
from flyteagents._kernel.open_job import OpenJob, identity_of
from flyteagents._kernel.poll import POLL_LIMIT, Polling, by_age
from flyteagents._kernel.requests import Answer, CreateRequest, Deadline, JobRequest, Refused
from flyteagents._kernel.runtime import Runtime, log
from flyteagents._kernel.soft_state import Seen
from flyteagents._status import LogPage, Metric, MetricsQuery, Phase
from flyteagents._task import Key
from flyteagents._telemetry.tracing import Rpc, trace_id
from flyteagents._vendor.budget import Budget

# Calls that Flyte does not depend on answer with the plain gRPC error.
_CODES: dict[type[AgentError], str] = {
    Unsupported: "UNIMPLEMENTED", JobNotFound: "NOT_FOUND", VendorError: "UNAVAILABLE",
    AgentError: "FAILED_PRECONDITION",
}  # fmt: skip


class Service:
    """The life cycle of jobs, for all agents."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._cancelling = Cancelling(runtime)
        self._creating = Creating(runtime, self._cancelling)
        self._polling = Polling(runtime, self._cancelling)

    async def create(self, request: CreateRequest, deadline: Deadline, rpc: Rpc) -> bytes:
        """CreateTask: the new `resource_meta`."""
        key, trace = self._begin(request, rpc)
        return dump(await self._creating.create(request, key, f"{trace:032x}", deadline))

    async def run(self, request: CreateRequest, deadline: Deadline, rpc: Rpc) -> Answer:
        """ExecuteTaskSync: a terminal answer."""
        key, _ = self._begin(request, rpc)
        return await self._creating.run(request, key, deadline)

    async def get(self, request: JobRequest, deadline: Deadline, rpc: Rpc) -> Answer:
        """GetTask: never fails for the sake of a vendor, an agent, or another release."""
        envelope = self._open(request, rpc)
        parked = envelope.parked or self.runtime.soft.verdicts.get(envelope.key)
        if parked is not None:
            outputs = None if parked.outputs is None else base64.b64decode(parked.outputs)
            return Answer(parked.phase, parked.message, outputs)
        if not self._admits(envelope):
            return Answer(
                Phase.FAILED, "this service no longer serves the task's project and domain"
            )
        opened = self._job(request, envelope, self.runtime.soft.seen(request))
        if opened is None:
            log.warning(
                "no agent here can read a job of %r; answering by its age", envelope.task_type
            )
            return by_age(envelope)
        before = opened.seen.phase
        answer = await self._polling.poll(opened, deadline)
        rpc.changed = answer.phase is not before
        return answer

    async def delete(self, request: JobRequest, deadline: Deadline, rpc: Rpc) -> None:
        """DeleteTask: OK for everything that does not run."""
        envelope = self._open(request, rpc)
        if envelope.parked is not None:
            return
        if not self._admits(envelope):
            log.error(
                "not cancelling a job of %s/%s: not served", envelope.project, envelope.domain
            )
            return
        seen = self.runtime.soft.seen(request)
        opened = self._job(request, envelope, seen)
        if opened is None:
            self._not_ours(envelope, seen)
            return
        if seen.final is None or (seen.cancel is not None and not seen.cancel.done()):
            await self._cancelling.delete(opened, deadline)

    async def logs(self, request: JobRequest, token: str, lines: int, rpc: Rpc) -> LogPage:
        """GetTaskLogs: the page at `token`, or the first one."""
        page: LogPage = await self._ask(request, rpc, "logs", token, lines)
        return page

    async def metrics(self, request: JobRequest, query: MetricsQuery, rpc: Rpc) -> Sequence[Metric]:
        """GetTaskMetrics."""
        found: Sequence[Metric] = await self._ask(request, rpc, "metrics", query)
        return found

    async def _ask(self, request: JobRequest, rpc: Rpc, operation: str, *args: object) -> Any:
        envelope = self._open(request, rpc)
        host = self.runtime.host(envelope.task_type)
        opened = self._job(request, envelope, Seen())  # nothing to remember
        if opened is None or not self._admits(envelope):
            raise Refused("NOT_FOUND", "there is no job: the attempt ended before one was started")
        call = opened.call(operation, Budget(time.monotonic() + POLL_LIMIT, limit=POLL_LIMIT))
        method = getattr(host.agent, operation)
        try:
            return await self.runtime.operate(host, operation, method, opened.job, call, *args)
        except Exception as error:  # noqa: BLE001 # the agent's own code
            codes = (code for kind, code in _CODES.items() if isinstance(error, kind))
            text = self.runtime.tell(host, operation, error)
            raise Refused(next(codes, "INTERNAL"), text) from None

    def _begin(self, request: CreateRequest, rpc: Rpc) -> tuple[Key, int]:
        key = key_of(self.runtime.settings.cluster, request.task_type, request.output_prefix)
        trace = trace_id(prefix_of_task(request.output_prefix) or key.hex)
        rpc.begin(trace, key.hex, request.task_type, request.identity, created=time.time())
        return key, trace

    def _open(self, request: JobRequest, rpc: Rpc) -> Envelope:
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
        rpc.begin(trace, envelope.key, envelope.task_type, identity_of(envelope), envelope.created)
        return envelope

    def _foreign(self, request: JobRequest) -> Envelope:
        host = self.runtime.host(request.task_type)
        try:
            text = request.meta.decode()
            values = json.loads(text)
            if not isinstance(values, dict) or _validated(host, values) is None:
                raise ValueError
        except (ValueError, RecursionError):
            raise Refused(
                "INVALID_ARGUMENT", "resource_meta was written neither by this service nor by a "
                "connector whose jobs it can take over",
            ) from None  # fmt: skip
        key = key_of(self.runtime.settings.cluster, host.task_type, text)
        return Envelope(
            key=key.hex, task_type=host.task_type, created=0, foreign=True, job=values,
            declared=UNKNOWN, wrote=attempt_number(request.output_prefix),
        )  # fmt: skip

    def _job(self, request: JobRequest, envelope: Envelope, seen: Seen) -> OpenJob | None:
        """The job, its model checked again; None when this release cannot read it."""
        host = self.runtime.hosts.get(envelope.task_type)
        job = _validated(host, envelope.job) if host else None
        if host is None or job is None:
            return None
        return OpenJob(host, job, envelope, request.output_prefix, request.connection, seen)

    def _not_ours(self, envelope: Envelope, seen: Seen) -> None:
        """A DeleteTask for a job that this replica cannot read. Another one may, so the caller is
        to ask again; but it aborts the whole workflow after eleven refusals."""
        text = f"no agent here can cancel a job of {envelope.task_type[:80]!r}"
        seen.refused += 1
        if seen.refused <= 3:
            raise Refused("UNAVAILABLE", text)
        log.error("%s, and nobody else did: it may run on", text)
        label = self.runtime.label(envelope.task_type)
        self.runtime.telemetry.metrics.cancels_unconfirmed.add(label, "no agent")

    def _admits(self, envelope: Envelope) -> bool:
        """Whether the job is of a tenant that is served; other connectors' metas name none."""
        return envelope.foreign or self.runtime.allowed(envelope.project, envelope.domain)


def _validated(host: AgentHost, values: Any) -> Job | None:
    try:
        return host.models.job.model_validate(values) if host.models.job else None
    except ValidationError:
        return None
