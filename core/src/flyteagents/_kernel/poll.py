"""GetTask: how the job is doing, whatever the vendor is doing."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from flyteagents._errors import InvalidTask
from flyteagents._job import Job
from flyteagents._kernel.cancel import YOUNG, Cancelling
from flyteagents._kernel.detached import wait_within
from flyteagents._kernel.envelope import Envelope
from flyteagents._kernel.host import AgentHost
from flyteagents._kernel.requests import ANSWER_LIMIT, Answer, Deadline, JobRequest
from flyteagents._kernel.runtime import Runtime, declared_of, identity_of
from flyteagents._kernel.soft_state import SMALL, Seen
from flyteagents._kernel.spans import job_ended
from flyteagents._kernel.verdicts import Verdict, cause, verdict
from flyteagents._status import Link, Phase, Status
from flyteagents._telemetry.redact import redact
from flyteagents._vendor.budget import Budget

log = logging.getLogger("flyteagents")
QUICK = 2.0
"""Seconds to answer in where a phase is known: Flyte polls all jobs with ten workers."""
POLL_LIMIT = 30.0
"""Seconds a poll may take, however long ago its callers were answered."""
SERIES = 10
"""Polls that must fail in a row, besides the patience, before a job is given up."""


def by_age(envelope: Envelope) -> Answer:
    """The answer where nothing is known."""
    young = time.time() - envelope.created < 60
    return Answer(Phase.INITIALIZING if young else Phase.RUNNING)


class Polling:
    """Polls: shared, answered in time, and patient."""

    def __init__(self, runtime: Runtime, cancelling: Cancelling) -> None:
        self._runtime = runtime
        self._cancelling = cancelling

    async def poll(
        self, host: AgentHost, job: Job, envelope: Envelope, request: JobRequest, seen: Seen,
        deadline: Deadline,
    ) -> Answer:  # fmt: skip
        """The job's answer; never fails."""
        if seen.final is not None:
            return seen.final
        polling = seen.poll  # another caller may begin the next one before this one wakes up
        if polling is None or polling.done():
            if not host.polls.try_enter():
                self._runtime.telemetry.metrics.admission(host.task_type, "get", "remembered")
                return self._remembered(host, job, envelope, seen)
            polling = seen.poll = self._runtime.detached.start(
                self._ask(host, job, envelope, request, seen), finish=False
            )
        patience = QUICK if seen.phase is not None else deadline.left
        if await wait_within(polling, min(patience, deadline.left)) and not polling.cancelled():
            return polling.result()
        return self._remembered(host, job, envelope, seen)

    def _remembered(self, host: AgentHost, job: Job, envelope: Envelope, seen: Seen) -> Answer:
        answer = seen.final or seen.latest or by_age(envelope)
        if seen.phase is None and answer.phase is Phase.RUNNING:
            seen.phase = Phase.RUNNING  # said once, it is not taken back
        return answer if answer.links else replace(answer, links=self._links(host, job))

    async def _ask(
        self, host: AgentHost, job: Job, envelope: Envelope, request: JobRequest, seen: Seen
    ) -> Answer:
        budget = Budget(until=time.monotonic() + POLL_LIMIT, limit=POLL_LIMIT, retries=False)
        metrics = self._runtime.telemetry.metrics
        metrics.in_flight(host.task_type, "get", 1)
        call = self._runtime.job_call(host, "get", envelope, request, job, budget)
        try:
            status = await self._runtime.operate(
                host, "get", host.agent.get, job, call, limit=POLL_LIMIT
            )
            if not isinstance(status, Status):
                raise TypeError(f"get returned {type(status).__name__}, not a Status")
            answer = self._answer(host, job, envelope, status, seen)
        except Exception as error:  # noqa: BLE001 # the table knows them all
            answer = self._failed(host, job, envelope, request, seen, error)
        finally:
            host.polls.leave()
            metrics.in_flight(host.task_type, "get", -1)
        return answer

    def _answer(
        self, host: AgentHost, job: Job, envelope: Envelope, status: Status, seen: Seen
    ) -> Answer:
        """What the vendor said, as Flyte wants it."""
        seen.failures.end()
        seen.refusals.end()
        self._runtime.soft.failing.pop(seen, None)
        phase = status.phase or (seen.phase or by_age(envelope).phase)
        if phase is Phase.INITIALIZING and seen.phase is Phase.RUNNING:
            phase = Phase.RUNNING
        text, outputs = status.message or "", None
        if status.code:
            text = f"[{status.code}] {text}"
        if phase is Phase.ABORTED:
            # Flyte drops the message of an aborted task. A job that was taken over may have been
            # stopped for the attempt it was made for, so this attempt's retry starts another.
            phase = Phase.RETRYABLE_FAILED if envelope.adopted else Phase.FAILED
            text = text or "the job was stopped at its vendor"
        if phase is Phase.SUCCEEDED and status.outputs is not None:
            try:
                outputs = self._runtime.codec(status.outputs, declared_of(envelope))
                if len(outputs) > ANSWER_LIMIT:
                    raise InvalidTask(
                        f"the outputs take {len(outputs)} bytes and Flyte takes {ANSWER_LIMIT} "
                        "in an answer; write them to a file or a table and return its URI"
                    )
            except InvalidTask as error:
                phase, text, outputs = Phase.FAILED, str(error), None
        answer = Answer(phase, redact(text), outputs, self._links(host, job), status.info)
        if phase.terminal:
            self._ended(envelope, phase, answer.message, status)
        return _remember(seen, answer)

    def _failed(
        self, host: AgentHost, job: Job, envelope: Envelope, request: JobRequest, seen: Seen,
        error: Exception,
    ) -> Answer:  # fmt: skip
        what = verdict("get", error)
        if what is Verdict.MISSING:
            return self._missing(host, job, envelope, seen)
        if what is Verdict.FAIL:
            return self._give_up(host, job, envelope, request, seen, Phase.FAILED, str(error))
        settings = self._runtime.settings
        age = seen.failures.add()
        self._runtime.soft.failing[seen] = host.task_type
        patience = settings.outage_patience
        if what is Verdict.REFUSED:
            age, patience = seen.refusals.add(), settings.auth_patience
            count = seen.refusals.count
        else:
            seen.refusals.end()
            count = seen.failures.count
        self._runtime.telemetry.metrics.hiccup(host.task_type, cause(error))
        text = self._runtime.tell(host, "get", error)
        log.warning("%s: poll %d in a row failed: %s", host.task_type, seen.failures.count, text)
        if count >= SERIES and age >= patience:
            text = f"given up after {int(age)} s without an answer: {text}"
            return self._give_up(host, job, envelope, request, seen, Phase.RETRYABLE_FAILED, text)
        return self._remembered(host, job, envelope, seen)

    def _missing(self, host: AgentHost, job: Job, envelope: Envelope, seen: Seen) -> Answer:
        links = self._links(host, job)
        if time.time() - envelope.created < YOUNG:
            return _remember(seen, Answer(seen.phase or Phase.INITIALIZING, links=links))
        if envelope.unconfirmed:
            text = "the job never arrived at its vendor"
            answer = Answer(Phase.RETRYABLE_FAILED, text, links=links)
        else:
            text = "the vendor no longer knows this job; running it again may repeat its work"
            answer = Answer(Phase.FAILED, text, links=links)
        self._ended(envelope, answer.phase, text, None)
        return _remember(seen, answer)

    def _give_up(
        self, host: AgentHost, job: Job, envelope: Envelope, request: JobRequest, seen: Seen,
        phase: Phase, text: str,
    ) -> Answer:  # fmt: skip
        """A failure that the vendor did not report: nobody deletes after it, so stop the job."""
        text = redact(text)
        self._cancelling.detach(host, job, identity_of(envelope), request.connection, seen)
        self._runtime.telemetry.metrics.abandoned(host.task_type)
        self._ended(envelope, phase, text, None)
        return _remember(seen, Answer(phase, text, links=self._links(host, job)))

    def _ended(self, envelope: Envelope, phase: Phase, text: str, status: Status | None) -> None:
        job_ended(self._runtime.telemetry, envelope, identity_of(envelope), phase, text, status)

    def _links(self, host: AgentHost, job: Job) -> tuple[Link, ...]:
        try:
            return tuple(host.agent.links(job))
        except Exception as error:  # noqa: BLE001 # a missing link must not fail a poll
            self._runtime.bug(host, "links", error)
            return ()


def _remember(seen: Seen, answer: Answer) -> Answer:
    seen.phase, seen.latest = answer.phase, answer
    if answer.phase.terminal:
        if answer.outputs is None or len(answer.outputs) <= SMALL:
            seen.final = answer
        else:  # ask the vendor again rather than keep megabytes
            seen.phase, seen.latest = Phase.RUNNING, None
    return answer
