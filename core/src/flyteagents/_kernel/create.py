"""CreateTask: a request to an envelope. What goes wrong is parked, not raised.

A CreateTask error burns an attempt of the user's within 0.1 s and does not say why (flyteplugins
.../webapi/launcher.go:17-20). So the answer is OK, with an envelope that carries the failure, and
GetTask tells it: the same price, but the user reads the reason. The way to the vendor is in
`flights`; here is what an answer is made of.
"""

from __future__ import annotations

import base64
from typing import Any

from flyteagents._errors import AgentError, Forbidden
from flyteagents._job import Job
from flyteagents._kernel.answers import SMALL, Answer, Refused, warned
from flyteagents._kernel.carried import packed
from flyteagents._kernel.copies import completed
from flyteagents._kernel.deadline import Deadline
from flyteagents._kernel.ends import record_end, record_start
from flyteagents._kernel.envelope import Envelope, Parked, dump, new_envelope
from flyteagents._kernel.flight import Flight, Made, Stage
from flyteagents._kernel.flights import Flights
from flyteagents._kernel.kernel import Kernel, log
from flyteagents._kernel.keys import attempt_number
from flyteagents._kernel.lane import RAISED
from flyteagents._kernel.requests import CreateRequest
from flyteagents._kernel.returned import check_returned, job_values
from flyteagents._kernel.served import ServedAgent
from flyteagents._kernel.tasks import build_task
from flyteagents._kernel.verdicts import Verdict, phase_of, verdict
from flyteagents._redact import excerpt
from flyteagents._status import Phase
from flyteagents._task import Key, Task

WARNINGS, WARNING_LIMIT = 3, 160
"""Warnings that an envelope carries, and bytes of each."""
WHY_LIMIT = 200
"""Bytes of what an unconfirmed envelope has of its vendor's last words."""


class Creating:
    """Answers CreateTask and ExecuteTaskSync."""

    def __init__(self, kernel: Kernel, flights: Flights) -> None:
        self._kernel = kernel
        self._flights = flights

    async def create(
        self, request: CreateRequest, key: Key, trace: str, deadline: Deadline
    ) -> bytes:
        """CreateTask's answer: a new envelope, or the one that the attempt has already. Raises
        Refused for unknown task types and bugs."""
        served = self._kernel.served(request.task_type)
        wrote = attempt_number(request.output_prefix)
        envelope = new_envelope(request.identity, key.hex, request.task_type, trace, wrote)
        try:
            task = self._task(served, request, key)
        except AgentError as error:
            text = self._kernel.tell(served, "create", error)
            return dump(self._park(envelope, Answer(Phase.FAILED, text)))
        completed(
            envelope,
            fingerprint=task.fingerprint.text,
            declared=self._kernel.codec.declared_text(task.declared),
            warnings=self._warnings(served, task),
        )

        # Flyte repeats CreateTask when it could not store the round's state: it must hear of the
        # same job (flytepropeller/pkg/controller/nodes/task/handler.go:800-806).
        known = self._kernel.soft.created.get(key.hex)
        flight = self._flights.under_way(key.hex)
        there = known[0] if known else flight and flight.task.fingerprint.text
        # Sharing the key's job would pass off the results of other work as this task's.
        if there and not task.fingerprint.matches(there):
            text = "another task with the same output prefix was created before; it is other work"
            return dump(self._park(envelope, Answer(Phase.FAILED, text)))
        if known:
            return known[1]

        flight = flight or self._flights.start(served, task, request, deadline)
        landed = await self._flights.wait(flight, deadline)
        # Another replica learns of it from the polls.
        if flight.settled:
            completed(envelope, settled=flight.settled)
        # Flyte 2 has no ExecuteTaskSync: the end rides in `resource_meta`, and GetTask tells it.
        if served.is_sync:
            return dump(self._park(envelope, _ran(flight, landed, deadline, "CreateTask")))
        if landed:
            return self._outcome(flight, envelope, request)
        return dump(self._not_yet(flight, envelope, request))

    async def run(self, request: CreateRequest, key: Key, trace: str, deadline: Deadline) -> Answer:
        """ExecuteTaskSync: always a terminal answer. Flyte 1 polls whatever else it is told, with
        nothing to poll: its workers panic, one by one, until no agent's task is polled any more
        (flyteplugins .../webapi/agent/plugin.go:250)."""
        served = self._kernel.served(request.task_type)
        if not served.is_sync:
            raise Refused("FAILED_PRECONDITION", f"{served.task_type} is asynchronous: CreateTask")
        envelope = new_envelope(request.identity, key.hex, request.task_type, trace)
        answer = await self._run(served, request, key, deadline)
        # Here, since no GetTask follows that would see the end.
        record_end(self._kernel, envelope, answer)
        return answer

    async def _run(
        self, served: ServedAgent, request: CreateRequest, key: Key, deadline: Deadline
    ) -> Answer:
        try:
            task = self._task(served, request, key)
        except AgentError as error:
            return Answer(Phase.FAILED, self._kernel.tell(served, "run", error))
        flight = self._flights.under_way(key.hex)
        flight = flight or self._flights.start(served, task, request, deadline)
        landed = await self._flights.wait(flight, deadline)
        answer = _ran(flight, landed, deadline, "ExecuteTaskSync")
        return warned(answer, self._warnings(served, task))

    def _task(self, served: ServedAgent, request: CreateRequest, key: Key) -> Task[Any]:
        who = request.identity
        if not self._kernel.allowed(who.project, who.domain):
            raise Forbidden(
                f"this service does not serve project {who.project!r} in domain {who.domain!r}; "
                "its operator sets FLYTEAGENTS_ALLOW"
            )
        try:
            return build_task(served, request, key)
        except AgentError:
            raise
        except RAISED as error:  # the agent's own code
            raise Refused("INTERNAL", self._kernel.tell(served, "create", error)) from None

    def _warnings(self, served: ServedAgent, task: Task[Any]) -> tuple[str, ...]:
        """What the agent has to say of the task, as much of it as an envelope has room for."""
        if served.warns_of_keys_alone and not task.unread:
            return ()
        try:
            told = served.agent.warnings(task)
            # One text is a sequence of texts too, of its letters.
            said = [told] if isinstance(told, str) else list(told)
            kept = tuple(excerpt(text, WARNING_LIMIT) for text in said[:WARNINGS])
        except RAISED as error:  # a missing warning must not fail a create
            self._kernel.tell(served, "warnings", error)
            return ()
        return (*kept, f"and {len(said) - len(kept)} more") if said[WARNINGS:] else kept

    def _outcome(self, flight: Flight, envelope: Envelope, request: CreateRequest) -> bytes:
        """The vendor has said yes or no."""
        error = flight.work.exception()
        if error is None:
            made = flight.work.result()
            assert isinstance(made, Made)  # asynchronous agents make jobs
            job = job_values(made.job)
            completed(envelope, job=job, wrote=made.wrote)
            if made.key != envelope.key:
                completed(envelope, adopted=True, made_with=made.key)
            # Else the next attempt would take it for just named, and not look at how it is doing.
            self._flights.was_heard(envelope.key)
            record_start(envelope, flight.task)
            # Only a yes: after any other answer a repeated call may hear the vendor's own.
            meta = dump(envelope)
            self._kernel.soft.created.put(envelope.key, (envelope.fingerprint, meta))
            return meta
        what = verdict("create", error)
        text = self._kernel.tell(flight.served, "create", error)
        if what is Verdict.LATER:
            envelope = self._not_yet(flight, envelope, request, text)
            if envelope.parked is not None:
                self._flights.was_told_failed(flight)
            return dump(envelope)
        if what is Verdict.BUG:
            self._flights.was_told_failed(flight)  # it may have come after the vendor's yes
            raise Refused("INTERNAL", text)
        return dump(self._park(envelope, Answer(phase_of(what), text)))

    def _not_yet(
        self, flight: Flight, envelope: Envelope, request: CreateRequest, why: str = ""
    ) -> Envelope:
        """The budget is over and the vendor has not said yes. Where the job's name is ours, that
        is the answer, and GetTask finds out; else the next attempt finds the job."""
        handle: Job | None = None
        # Before that, a handle would name a job that nobody has asked the vendor for.
        if flight.stage is Stage.SUBMITTING:
            try:
                handle = flight.served.agent.handle(flight.task)
                check_returned("handle", handle, flight.served.offered.models.job)
            except RAISED as error:  # the flight goes on without it
                handle, text = None, self._kernel.tell(flight.served, "handle", error)
                why = why or text
        text = why or flight.waits_for
        if handle is None:
            return self._park(envelope, Answer(Phase.RETRYABLE_FAILED, text))
        self._flights.was_told_unconfirmed(flight, text)
        task_type = flight.served.task_type
        log.warning("%s: answering create before the vendor did (%s)", task_type, text)
        job = job_values(handle)
        completed(envelope, job=job, unconfirmed=True, why=excerpt(text, WHY_LIMIT))
        # This replica may go, and a poll of another one brings no template.
        if flight.goes_on:
            completed(envelope, request=packed(request, self._kernel.codec))
        record_start(envelope, flight.task)
        return envelope

    def _park(self, envelope: Envelope, answer: Answer) -> Envelope:
        """The envelope of an attempt that has ended already."""
        # They ride in `resource_meta`, which Flyte stores with the workflow, under etcd's limit
        # (flytepropeller/pkg/controller/handler.go:379-411).
        if answer.outputs is not None and len(answer.outputs) > SMALL:
            text = f"outputs of {len(answer.outputs)} bytes do not fit the {SMALL} that Flyte keeps"
            answer = Answer(Phase.FAILED, text)
        if answer.phase is not Phase.SUCCEEDED:
            phase = answer.phase.name
            self._kernel.telemetry.metrics.parked.add(envelope.task_type, phase)
            log.warning("%s: parked %s: %s", envelope.task_type, phase, answer.message)
        record_end(self._kernel, envelope, answer)
        outputs = None if answer.outputs is None else base64.b64encode(answer.outputs).decode()
        return completed(envelope, parked=Parked(answer.phase, answer.message, outputs))


def _ran(flight: Flight, landed: bool, deadline: Deadline, method: str) -> Answer:
    """What a synchronous agent's flight has to say."""
    if not landed:
        text = (
            f"{flight.served.task_type} did not end within {deadline.seconds:.1f} s, which is what "
            f"a call of {method} has; a longer timeout of ExecuteTaskSync in Flyte's configuration "
            "gives it more"
        )
        return Answer(Phase.FAILED, text)
    error = flight.work.exception()
    if error is not None:  # refused at the door, before `run` began
        return Answer(Phase.RETRYABLE_FAILED, str(error))
    answer = flight.work.result()
    assert isinstance(answer, Answer)  # synchronous agents answer
    return answer
