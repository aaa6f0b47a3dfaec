"""From `resource_meta` back to a job: an envelope of ours, of a later release, or what the
connector wrote that ran here before us.

It comes over the wire and carries no authority: the job's model is checked on every call, and so
is whether its tenant is served.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from flyteagents._job import Job
from flyteagents._kernel.answers import Refused
from flyteagents._kernel.envelope import UNKNOWN, BrokenEnvelope, Envelope, load
from flyteagents._kernel.kernel import Kernel
from flyteagents._kernel.keys import attempt_number, key_of
from flyteagents._kernel.open_job import OpenJob
from flyteagents._kernel.requests import JobRequest
from flyteagents._kernel.seen import Seen
from flyteagents._kernel.served import ServedAgent


def read_envelope(kernel: Kernel, request: JobRequest) -> Envelope:
    """The envelope of a request. Raises Refused with INVALID_ARGUMENT."""
    try:
        envelope = load(request.meta)
    except BrokenEnvelope as error:
        raise Refused("INVALID_ARGUMENT", str(error)) from None
    if envelope is None:
        return _foreign(kernel, request)
    if not envelope.task_type:
        return replace(envelope, task_type=request.task_type)
    return envelope


def open_job(kernel: Kernel, request: JobRequest, envelope: Envelope, seen: Seen) -> OpenJob | None:
    """The job, its model checked again; None when this release cannot read it."""
    served = kernel.agents.get(envelope.task_type)
    job = _validated(served, envelope.job) if served else None
    if served is None or job is None:
        return None
    return OpenJob(served, job, envelope, request.output_prefix, request.connection, seen)


def admits(kernel: Kernel, envelope: Envelope) -> bool:
    """Whether the job is of a tenant that is served; other connectors' metas name none."""
    return envelope.foreign or kernel.allowed(envelope.project, envelope.domain)


def _foreign(kernel: Kernel, request: JobRequest) -> Envelope:
    """An envelope for what flytekit's or flyte-sdk's connector wrote: a job as JSON."""
    served = kernel.served(request.task_type)
    try:
        text = request.meta.decode()
        values = json.loads(text)
        if not isinstance(values, dict) or _validated(served, values) is None:
            raise ValueError
    except (ValueError, RecursionError):
        raise Refused(
            "INVALID_ARGUMENT",
            "resource_meta was written neither by this service nor by a connector whose jobs "
            "it can take over",
        ) from None
    return Envelope(
        key=key_of(kernel.settings.cluster, served.task_type, text).hex,
        task_type=served.task_type,
        created=0,
        foreign=True,
        job=values,
        declared=UNKNOWN,
        wrote=attempt_number(request.output_prefix),
    )


def _validated(served: ServedAgent, values: Any) -> Job | None:
    try:
        return (
            served.offered.models.job.model_validate(values) if served.offered.models.job else None
        )
    except ValidationError:
        return None
