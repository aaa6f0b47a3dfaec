"""From `resource_meta` back to a job: an envelope of ours, of a later release, or what the
connector wrote that ran here before us.

It comes over the wire and carries no authority: the job's model is checked for all bytes that this
replica has not just checked, and so is whether the tenant is served.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from flyteagents._job import Job
from flyteagents._kernel.answers import Refused
from flyteagents._kernel.envelope import UNKNOWN, BrokenEnvelope, Envelope, load
from flyteagents._kernel.kernel import Kernel
from flyteagents._kernel.keys import attempt_number, key_of, prefix_of_task
from flyteagents._kernel.open_job import OpenJob
from flyteagents._kernel.requests import JobRequest
from flyteagents._kernel.returned import job_values
from flyteagents._kernel.seen import Seen
from flyteagents._kernel.served import ServedAgent
from flyteagents._telemetry.tracing import Attempt, trace_id


@dataclass(frozen=True, slots=True)
class Known:
    """What follows from a request alone: read, checked and validated once a replica instead of
    once a poll. `job` is None where this release cannot read it, `served` where no agent here
    could."""

    envelope: Envelope
    attempt: Attempt
    served: ServedAgent | None
    job: Job | None
    admitted: bool


def know(kernel: Kernel, request: JobRequest) -> Known:
    """What a request is about. Raises Refused with INVALID_ARGUMENT."""
    if request.known is not None:
        return request.known
    envelope, job = _read(kernel, request)
    if envelope.settled > 0:
        kernel.soft.settled.put(envelope.key, envelope.settled)
    # Not what may be read tomorrow, and no credentials: other connectors wrote them into theirs.
    lasts = job is not None and not envelope.newer
    secret = envelope.foreign or bool(request.connection.secrets)
    # Zero is no valid trace id (W3C Trace Context), and other connectors wrote none.
    trace = int(envelope.trace or "0", 16) or trace_id(
        prefix_of_task(request.output_prefix) or envelope.key
    )
    envelope = replace(envelope, trace=f"{trace:032x}")
    attempt = kernel.telemetry.tracing.attempt(
        trace, envelope.key, envelope.task_type, envelope.identity, envelope.created
    )
    served = kernel.agents.get(envelope.task_type)
    known = Known(envelope, attempt, served, job, _admits(kernel, envelope))
    if lasts and not secret:
        request.known = known
    return known


def open_job(known: Known, request: JobRequest, seen: Seen) -> OpenJob | None:
    """The job; None when this release cannot read it."""
    if known.served is None or known.job is None:
        return None
    # The memory of a job goes before its request where there are very many.
    if request.opened is not None and request.opened.seen is seen:
        return request.opened
    opened = OpenJob(
        known.served,
        known.job,
        known.envelope,
        request.output_prefix,
        request.connection,
        seen,
    )
    if request.known is known:
        request.opened = opened
    return opened


def _read(kernel: Kernel, request: JobRequest) -> tuple[Envelope, Job | None]:
    try:
        envelope = load(request.meta)
    except BrokenEnvelope as error:
        raise Refused("INVALID_ARGUMENT", str(error)) from None
    if envelope is None:
        return _foreign(kernel, request)
    # Of a later release's form only the head can be read; the request names the type.
    if not envelope.task_type:
        envelope = replace(envelope, task_type=request.task_type, newer=True)
    served = kernel.agents.get(envelope.task_type)
    return envelope, _validated(served, envelope.job) if served else None


def _admits(kernel: Kernel, envelope: Envelope) -> bool:
    """Whether the job is of a tenant that is served; other connectors' metas name none."""
    return envelope.foreign or kernel.allowed(envelope.project, envelope.domain)


def _foreign(kernel: Kernel, request: JobRequest) -> tuple[Envelope, Job | None]:
    """An envelope for what flytekit's or flyte-sdk's connector wrote: a job as JSON. The envelope
    has no more of it than our own would have: some of them wrote credentials."""
    served = kernel.served(request.task_type)
    try:
        text = request.meta.decode()
        values = json.loads(text)
        job = _validated(served, values) if isinstance(values, dict) else None
        if job is None:
            raise ValueError
    # RecursionError: `json` raises it for what is nested too deeply, and anyone may have sent it.
    except (ValueError, RecursionError):
        raise Refused(
            "INVALID_ARGUMENT",
            "resource_meta was written neither by this service nor by a connector whose jobs "
            "it can take over",
        ) from None
    envelope = Envelope(
        # Of the bytes alone: a DeleteTask has no output prefix, and must mean the same job.
        key=key_of(kernel.settings.cluster, served.task_type, text).hex,
        task_type=served.task_type,
        created=0,
        foreign=True,
        job=job_values(job),
        declared=UNKNOWN,
        wrote=attempt_number(request.output_prefix),
    )
    return envelope, job


def _validated(served: ServedAgent, values: Any) -> Job | None:
    try:
        return (
            served.offered.models.job.model_validate(values) if served.offered.models.job else None
        )
    except ValidationError:
        return None
