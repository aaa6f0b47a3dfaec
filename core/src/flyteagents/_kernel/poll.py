"""GetTask: how the job is doing, whatever the vendor is doing."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flyteagents._errors import InvalidTask
from flyteagents._kernel.cancel import YOUNG, Cancelling
from flyteagents._kernel.detached import wait_within
from flyteagents._kernel.envelope import Envelope
from flyteagents._kernel.open_job import OpenJob, identity_of
from flyteagents._kernel.requests import ANSWER_LIMIT, Answer, Deadline
from flyteagents._kernel.runtime import Runtime, log
from flyteagents._kernel.soft_state import SMALL, Seen
from flyteagents._kernel.verdicts import Verdict, cause, verdict
from flyteagents._redact import redact
from flyteagents._status import Link, Phase, Status
from flyteagents._telemetry.tracing import task_attributes
from flyteagents._types import Type
from flyteagents._vendor.budget import Budget

QUICK = 2.0
"""Seconds to answer in where a phase is known: Flyte polls all jobs with ten workers."""
POLL_LIMIT = 30.0
"""Seconds a poll may take, however long ago its callers were answered."""
SERIES = 10
"""Polls that must fail in a row, besides the patience, before a job is given up."""
_USER = re.compile(r"(?<=://)[^/@]*@")
"""A name and a password in a URL: an agent may make its links of the operator's settings."""


def by_age(envelope: Envelope) -> Answer:
    """The answer where nothing is known."""
    young = time.time() - envelope.created < 60
    return Answer(Phase.INITIALIZING if young else Phase.RUNNING)


class Polling:
    """Polls: shared, answered in time, and patient."""

    def __init__(self, runtime: Runtime, cancelling: Cancelling) -> None:
        self._runtime = runtime
        self._metrics = runtime.telemetry.metrics
        self._cancelling = cancelling

    async def poll(self, opened: OpenJob, deadline: Deadline) -> Answer:
        """The job's answer; never fails."""
        host, seen = opened.host, opened.seen
        if seen.final is not None:
            return seen.final
        polling = seen.poll  # another caller may begin the next one before this one wakes up
        if polling is None or polling.done():
            if not host.polls.try_enter():
                self._metrics.admission.add(host.task_type, "get", "remembered")
                return self._remembered(opened)
            polling = self._runtime.detached.start(self._ask(opened), finish=False)
            seen.poll = polling
        patience = QUICK if seen.phase is not None else deadline.left
        if await wait_within(polling, min(patience, deadline.left)) and not polling.cancelled():
            return polling.result()
        return self._remembered(opened)

    def _remembered(self, opened: OpenJob) -> Answer:
        seen = opened.seen
        answer = seen.final or seen.latest or by_age(opened.envelope)
        if seen.phase is None and answer.phase is Phase.RUNNING:
            seen.phase = Phase.RUNNING  # said once, it is not taken back
        return answer if answer.links else replace(answer, links=self._links(opened))

    async def _ask(self, opened: OpenJob) -> Answer:
        host = opened.host
        budget = Budget(time.monotonic() + POLL_LIMIT, limit=POLL_LIMIT, retries=False)
        call = opened.call("get", budget, self._declared(opened))
        operate, method = self._runtime.operate, host.agent.get
        try:
            status = await operate(host, "get", method, opened.job, call, limit=POLL_LIMIT)
            if not isinstance(status, Status):
                raise TypeError(f"get returned {type(status).__name__}, not a Status")
            return self._answer(opened, status)
        except Exception as error:  # noqa: BLE001 # the table knows them all
            return self._failed(opened, error)
        finally:
            host.polls.leave()
            opened.seen.poll = None  # a task that has ended still holds its context, with spans

    def _answer(self, opened: OpenJob, status: Status) -> Answer:
        """What the vendor said, as Flyte wants it."""
        seen = opened.seen
        seen.failures.end()
        seen.refusals.end()
        self._runtime.soft.failing.pop(seen, None)
        phase = status.phase or seen.phase or by_age(opened.envelope).phase
        if phase is Phase.INITIALIZING and seen.phase is Phase.RUNNING:
            phase = Phase.RUNNING
        text, outputs = status.message or "", None
        if status.code:
            text = f"[{status.code}] {text}"
        if phase is Phase.ABORTED:
            # Flyte drops the message of an aborted task. A job that was taken over may have been
            # stopped for the attempt it was made for, so this attempt's retry starts another.
            phase = Phase.RETRYABLE_FAILED if opened.envelope.adopted else Phase.FAILED
            text = text or "the job was stopped at its vendor"
        if phase is Phase.SUCCEEDED and status.outputs is not None:
            try:
                outputs = self._runtime.codec.outputs(status.outputs, self._declared(opened))
                if len(outputs) > ANSWER_LIMIT:
                    raise InvalidTask(
                        f"the outputs take {len(outputs)} bytes and Flyte takes {ANSWER_LIMIT} "
                        "in an answer; write them to a file or a table and return its URI"
                    )
            except InvalidTask as error:
                phase, text, outputs = Phase.FAILED, str(error), None
        answer = Answer(phase, redact(text), outputs, self._links(opened), status.info)
        return self._ended(opened, answer, status) if phase.terminal else _remember(seen, answer)

    def _failed(self, opened: OpenJob, error: Exception) -> Answer:
        """What becomes of a poll's error: a hiccup, as long as patience lasts."""
        host, seen, settings = opened.host, opened.seen, self._runtime.settings
        what = verdict("get", error)
        if what is Verdict.MISSING:
            return self._missing(opened)
        text = self._runtime.tell(host, "get", error)
        if what is Verdict.FAIL:
            return self._give_up(opened, Phase.FAILED, text)
        seen.failures.add()
        self._runtime.soft.failing[seen] = host.task_type
        if what is Verdict.REFUSED:
            seen.refusals.add()
            series, patience = seen.refusals, settings.auth_patience
        else:
            seen.refusals.end()
            series, patience = seen.failures, settings.outage_patience
        self._metrics.hiccups.add(host.task_type, cause(error))
        log.warning("%s: poll %d in a row failed: %s", host.task_type, seen.failures.count, text)
        if series.count >= SERIES and series.age >= patience:
            text = f"given up after {int(series.age)} s without an answer: {text}"
            return self._give_up(opened, Phase.RETRYABLE_FAILED, text)
        return self._remembered(opened)

    def _missing(self, opened: OpenJob) -> Answer:
        links, seen = self._links(opened), opened.seen
        if opened.age < YOUNG:
            return _remember(seen, Answer(seen.phase or Phase.INITIALIZING, links=links))
        if opened.envelope.unconfirmed:
            text = "the job never arrived at its vendor"
            return self._ended(opened, Answer(Phase.RETRYABLE_FAILED, text, links=links))
        text = "the vendor no longer knows this job; running it again may repeat its work"
        return self._ended(opened, Answer(Phase.FAILED, text, links=links))

    def _give_up(self, opened: OpenJob, phase: Phase, text: str) -> Answer:
        """A failure that the vendor did not report: nobody deletes after it, so stop the job."""
        self._cancelling.detach(opened)
        self._metrics.abandoned.add(opened.host.task_type)
        return self._ended(opened, Answer(phase, text, links=self._links(opened)))

    def _ended(self, opened: OpenJob, answer: Answer, status: Status | None = None) -> Answer:
        """Close the job's trace: the root span, with the vendor's own statistics."""
        self._runtime.soft.failing.pop(opened.seen, None)
        envelope, ended = opened.envelope, time.time()
        started = ended
        attributes: dict[str, Any] = task_attributes(envelope.task_type, identity_of(envelope))
        attributes |= {"flyte.phase": answer.phase.name, "flyte.adopted": envelope.adopted}
        if status is not None:
            if status.started is not None:
                started = status.started.timestamp()
                attributes["flyte.job.queue_seconds"] = max(started - envelope.created, 0.0)
            ended = status.ended.timestamp() if status.ended else ended
            attributes |= {f"flyte.job.{name}": n for name, n in status.statistics.items()}
            self._metrics.job_statistics(envelope.task_type, status.statistics)
        self._runtime.telemetry.tracing.job(
            int(envelope.trace or "0", 16) or 1, envelope.key, f"job {envelope.task_type}",
            min(envelope.created or started, started), ended, attributes,
            None if answer.phase is Phase.SUCCEEDED else answer.message,
        )  # fmt: skip
        return _remember(opened.seen, answer)

    def _declared(self, opened: OpenJob) -> Mapping[str, Type] | None:
        """The outputs that the task declares; None where nobody knows."""
        try:
            return self._runtime.codec.load_types(opened.envelope.declared)
        except ValueError:
            return None

    def _links(self, opened: OpenJob) -> Sequence[Link]:
        latest = opened.seen.latest
        if latest is not None and latest.links:  # they follow from the job alone
            return latest.links
        try:
            links = opened.host.agent.links(opened.job)
            return tuple(Link(link.name, redact(_USER.sub("", link.uri))) for link in links)
        except Exception as error:  # noqa: BLE001 # a missing link must not fail a poll
            self._runtime.tell(opened.host, "links", error)
            return ()


def _remember(seen: Seen, answer: Answer) -> Answer:
    seen.phase, seen.latest = answer.phase, answer
    if answer.phase.terminal:
        if answer.outputs is None or len(answer.outputs) <= SMALL:
            seen.final = answer
        else:  # ask the vendor again rather than keep megabytes
            seen.phase, seen.latest = Phase.RUNNING, None
    return answer
