"""CreateTask: one attempt, one job; what goes wrong is parked, not raised."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flyteagents._errors import AgentError, Forbidden, Throttled
from flyteagents._kernel.cancel import Cancelling
from flyteagents._kernel.envelope import Envelope, Parked
from flyteagents._kernel.flight import Flight, Made, Untold
from flyteagents._kernel.host import AgentHost
from flyteagents._kernel.keys import attempt_number
from flyteagents._kernel.open_job import OpenJob, envelope_of
from flyteagents._kernel.requests import Answer, CreateRequest, Deadline, Refused
from flyteagents._kernel.runtime import Runtime, log
from flyteagents._kernel.settle import settle
from flyteagents._kernel.soft_state import SMALL, Bounded
from flyteagents._kernel.tasks import build_task
from flyteagents._kernel.verdicts import Verdict, verdict
from flyteagents._redact import redact
from flyteagents._status import Phase
from flyteagents._task import Key, Task
from flyteagents._types import Type
from flyteagents._vendor.budget import Budget

DECLARED_LIMIT = 400
"""Characters of declared types in an envelope with their columns; without if they take more."""


class Creating:
    """Creates, and what is still on its way."""

    def __init__(self, runtime: Runtime, cancelling: Cancelling) -> None:
        self._runtime = runtime
        self._metrics = runtime.telemetry.metrics
        self._cancelling = cancelling
        self._flights: dict[str, Flight] = {}
        self._untold: Bounded[Untold] = Bounded(1000)

    async def create(
        self, request: CreateRequest, key: Key, trace: str, deadline: Deadline
    ) -> Envelope:
        """The envelope for CreateTask's answer. Raises Refused for unknown task types and bugs."""
        host = self._runtime.host(request.task_type)
        wrote = attempt_number(request.output_prefix)
        envelope = envelope_of(request.identity, key.hex, host.task_type, trace, wrote)
        try:
            task = self._task(host, request, key)
        except AgentError as error:
            return self._park(envelope, Answer(Phase.FAILED, redact(str(error))))
        envelope = replace(
            envelope, fingerprint=str(task.fingerprint), declared=self._declared(task.declared)
        )
        known, flight = self._runtime.soft.created.get(key.hex), self._flights.get(key.hex)
        there = known.fingerprint if known else flight and str(flight.task.fingerprint)
        if there and not task.fingerprint.matches(there):
            text = "another task with the same output prefix was created before; it is other work"
            return self._park(envelope, Answer(Phase.FAILED, text))
        if known:
            return known
        flight = flight or self._start(host, task, request, deadline)
        landed = await self._wait(flight, deadline)
        if host.is_sync:
            return self._park(envelope, _ran(flight, landed))
        return self._outcome(flight, envelope) if landed else self._not_yet(flight, envelope)

    async def run(self, request: CreateRequest, key: Key, deadline: Deadline) -> Answer:
        """ExecuteTaskSync: always a terminal answer."""
        host = self._runtime.host(request.task_type)
        if not host.is_sync:
            raise Refused("FAILED_PRECONDITION", f"{host.task_type} is asynchronous: CreateTask")
        try:
            task = self._task(host, request, key)
        except AgentError as error:
            return Answer(Phase.FAILED, redact(str(error)))
        flight = self._flights.get(key.hex) or self._start(host, task, request, deadline)
        return _ran(flight, await self._wait(flight, deadline))

    def _task(self, host: AgentHost, request: CreateRequest, key: Key) -> Task[Any]:
        who = request.identity
        if not self._runtime.allowed(who.project, who.domain):
            raise Forbidden(
                f"this service does not serve project {who.project!r} in domain {who.domain!r}; "
                "its operator sets FLYTEAGENTS_ALLOW"
            )
        try:
            return build_task(host, request, key)
        except AgentError:
            raise
        except Exception as error:  # noqa: BLE001 # the agent's own code
            raise Refused("INTERNAL", self._runtime.tell(host, "create", error)) from None

    def _start(
        self, host: AgentHost, task: Task[Any], request: CreateRequest, deadline: Deadline
    ) -> Flight:
        budget = Budget(deadline.until, "any" if host.idempotency == "vendor" else "unsent")
        flight = Flight(
            self._runtime, host, task, request.connection, request.generation, budget,
            f"{host.task_type}: {host.creates.limit} creates are under way; try later",
        )  # fmt: skip
        flight.work = self._runtime.detached.start(self._fly(flight))
        self._flights[task.key.hex] = flight
        flight.work.add_done_callback(lambda _: self._landed(flight))
        return flight

    async def _fly(self, flight: Flight) -> Made | Answer:
        host, task = flight.host, flight.task
        # Who waits for longer would come in with too little time left for the vendor, and so keep
        # the place from those that have it: under load no create at all would be in time.
        if not await host.creates.enter(flight.budget.left / 2):
            self._metrics.admission.add(host.task_type, "create", "refused")
            raise Throttled(flight.waits_for)
        try:
            flight.waits_for = "an earlier attempt's job is not settled yet"
            if host.is_sync:
                return await self._execute(flight)
            if self._adopts(host):
                made = await settle(flight, self._flights, self._untold)
                if made is not None:
                    self._metrics.adopted.add(host.task_type)
                    return made
            flight.waits_for = f"{host.task_type}: the vendor did not answer in time"
            flight.submitting = True
            return Made(await self._submit(flight), attempt_number(task.output_prefix))
        finally:
            host.creates.leave()

    def _adopts(self, host: AgentHost) -> bool:
        """Whether an attempt takes over the jobs of earlier ones."""
        return self._runtime.settings.adopt and host.idempotency != "none"

    async def _submit(self, flight: Flight) -> Any:
        """The job of the attempt's key: the one that is there, or a new one."""
        idempotency, task = flight.host.idempotency, flight.task
        if idempotency == "vendor":
            return await flight.patiently("create", task)
        if idempotency == "lookup":
            found = await flight.patiently("find", task)
            if found is not None:
                return found
        # Not asked again after a failure: the job may be there and not be found yet.
        return await flight.operate("create", task)

    async def _execute(self, flight: Flight) -> Answer:
        host, task = flight.host, flight.task
        try:
            outputs = await flight.operate("run", task) or {}
            encoded = self._runtime.codec.outputs(outputs, task.declared)
            return Answer(Phase.SUCCEEDED, outputs=encoded)
        except Exception as error:  # noqa: BLE001 # the table knows them all
            return Answer(_phase(verdict("run", error)), self._runtime.tell(host, "run", error))

    async def _wait(self, flight: Flight, deadline: Deadline) -> bool:
        try:
            return await flight.wait(deadline)
        finally:
            if flight.work.done():
                self._landed(flight)

    def _outcome(self, flight: Flight, envelope: Envelope) -> Envelope:
        error = flight.work.exception()
        if error is None:
            made = flight.work.result()
            assert isinstance(made, Made)  # asynchronous agents make jobs
            job = made.job.model_dump(mode="json")
            envelope = replace(envelope, job=job, adopted=made.adopted, wrote=made.wrote)
            self._untold.pop(envelope.key)
            return self._runtime.soft.created.put(envelope.key, envelope)
        what = verdict("create", error)
        if what is Verdict.LATER:
            return self._not_yet(flight, envelope, str(error))
        text = self._runtime.tell(flight.host, "create", error)
        if what is Verdict.BUG:
            raise Refused("INTERNAL", text)
        return self._park(envelope, Answer(_phase(what), text))

    def _not_yet(self, flight: Flight, envelope: Envelope, why: str = "") -> Envelope:
        """The budget is over and the vendor has not said yes."""
        host, handle = flight.host, None
        if flight.submitting:
            try:
                handle = host.agent.handle(flight.task)
            except AgentError as error:
                why = why or str(error)
        text = redact(why or flight.waits_for)
        if handle is None:
            return self._park(envelope, Answer(Phase.RETRYABLE_FAILED, text))
        flight.unconfirmed = True
        log.warning("%s: answering create before the vendor did (%s)", host.task_type, text)
        return replace(envelope, job=handle.model_dump(mode="json"), unconfirmed=True)

    def _landed(self, flight: Flight) -> None:
        """The flight has ended. A job that no caller was told of must not be forgotten."""
        key = flight.task.key.hex
        if self._flights.get(key) is flight:  # and not the next one for this key
            del self._flights[key]
        if flight.waiting or flight.told or flight.work.cancelled() or flight.host.is_sync:
            return
        flight.told = True  # whatever follows, follows once
        host, error = flight.host, flight.work.exception()
        if error is not None:
            what = verdict("create", error)
            if flight.unconfirmed and what in (Verdict.FAIL, Verdict.RETRY):
                text = self._runtime.tell(host, "create", error)
                self._runtime.soft.verdicts.put(key, Parked(_phase(what), text))
            return
        made = flight.work.result()
        if flight.unconfirmed or not isinstance(made, Made):
            return
        cancel = flight.last_attempt or not self._adopts(host)
        log.warning(
            "%s: the vendor named job %s after its caller had gone; %s", host.task_type, made.job,
            "cancelling it" if cancel else "a next attempt will find it",
        )  # fmt: skip
        self._metrics.abandoned.add(host.task_type)
        if cancel:
            envelope = envelope_of(flight.task.identity, key, host.task_type)
            self._cancelling.detach(OpenJob(host, made.job, envelope, connection=flight.connection))
        else:
            untold = Untold(made, str(flight.task.fingerprint), time.monotonic())
            self._untold.put(key, untold)

    def _park(self, envelope: Envelope, answer: Answer) -> Envelope:
        if answer.outputs is not None and len(answer.outputs) > SMALL:
            text = f"outputs of {len(answer.outputs)} bytes do not fit the {SMALL} that Flyte keeps"
            answer = Answer(Phase.FAILED, text)
        outputs = None if answer.outputs is None else base64.b64encode(answer.outputs).decode()
        if answer.phase is not Phase.SUCCEEDED:
            self._metrics.parked.add(envelope.task_type, answer.phase.name)
            log.warning("%s: parked %s: %s", envelope.task_type, answer.phase.name, answer.message)
        return replace(envelope, parked=Parked(answer.phase, answer.message, outputs))

    def _declared(self, types: Mapping[str, Type]) -> str:
        """The declared outputs for the envelope, without columns where they take too much room."""
        text = self._runtime.codec.dump_types(types)
        if len(text) > DECLARED_LIMIT:
            text = self._runtime.codec.dump_types({n: _narrow(of) for n, of in types.items()})
        return text


def _ran(flight: Flight, landed: bool) -> Answer:
    """What a synchronous agent's flight has to say."""
    if not landed:
        text = f"{flight.host.task_type} did not end within the call; it must answer in seconds"
        return Answer(Phase.FAILED, text)
    error = flight.work.exception()
    if error is not None:  # refused at the door, before `run` began
        return Answer(Phase.RETRYABLE_FAILED, str(error))
    answer = flight.work.result()
    assert isinstance(answer, Answer)  # synchronous agents answer
    return answer


def _narrow(of: Type) -> Type:
    return replace(of, columns=(), of=tuple(_narrow(part) for part in of.of))


def _phase(what: Verdict) -> Phase:
    return Phase.RETRYABLE_FAILED if what is Verdict.RETRY else Phase.FAILED
