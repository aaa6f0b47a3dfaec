"""CreateTask: one attempt, one job; what goes wrong is parked, not raised."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flyteagents._errors import (
    AgentError,
    JobConflict,
    JobNotFound,
    Throttled,
    Unavailable,
    VendorError,
)
from flyteagents._kernel import tasks
from flyteagents._kernel.cancel import Cancelling
from flyteagents._kernel.declared import dump_types
from flyteagents._kernel.detached import wait_within
from flyteagents._kernel.envelope import Envelope, Parked
from flyteagents._kernel.flight import Flight, Made, pause
from flyteagents._kernel.host import AgentHost, KernelCall
from flyteagents._kernel.keys import earlier_attempts, wrote_by
from flyteagents._kernel.requests import Answer, CreateRequest, Deadline, Refused
from flyteagents._kernel.runtime import Runtime
from flyteagents._kernel.settle import history
from flyteagents._kernel.soft_state import SMALL, Created
from flyteagents._kernel.verdicts import Verdict, verdict
from flyteagents._status import Phase
from flyteagents._task import Key, Task
from flyteagents._telemetry.redact import redact
from flyteagents._types import Type
from flyteagents._vendor.budget import Budget

log = logging.getLogger("flyteagents")


class Creating:
    """Creates, and what is still on its way."""

    def __init__(self, runtime: Runtime, cancelling: Cancelling) -> None:
        self._runtime = runtime
        self._cancelling = cancelling
        self._flights: dict[str, Flight] = {}

    async def create(
        self, request: CreateRequest, key: Key, trace: str, deadline: Deadline
    ) -> Envelope:
        """The envelope for CreateTask's answer. Raises Refused for unknown task types and bugs."""
        host = self._runtime.host(request.task_type)
        who = request.identity
        envelope = Envelope(
            key=key.hex, task_type=host.task_type, created=round(time.time(), 3), trace=trace,
            wrote=wrote_by(request.output_prefix), attempt=who.attempt, project=who.project,
            domain=who.domain, execution=who.execution, node=who.node,
        )  # fmt: skip
        if not self._runtime.allowed(who.project, who.domain):
            return self._park(
                host, envelope, Phase.FAILED, self._not_served(who.project, who.domain)
            )
        try:
            task = tasks.build_task(host, request, key)
        except AgentError as error:
            return self._park(host, envelope, Phase.FAILED, str(error))
        except Exception as error:  # noqa: BLE001 # the agent's own code
            raise Refused("INTERNAL", self._runtime.bug(host, "create", error)) from None
        envelope = replace(
            envelope, fingerprint=str(task.fingerprint), declared=dump_declared(task.declared)
        )
        known = self._runtime.soft.created.get(key.hex)
        flight = self._flights.get(key.hex)
        there = known.fingerprint if known else flight and str(flight.task.fingerprint)
        if there and not task.fingerprint.matches(there):
            text = "another task with the same output prefix was created before; it is other work"
            return self._park(host, envelope, Phase.FAILED, text)
        if known:
            return known.envelope
        if flight is None:
            flight = self._start(host, task, request, deadline)
        if host.is_sync:
            return self._park_answer(host, envelope, await self._ran(flight, deadline))
        return await self._wait(flight, envelope, deadline)

    async def run(self, request: CreateRequest, key: Key, deadline: Deadline) -> Answer:
        """ExecuteTaskSync: always a terminal answer."""
        host = self._runtime.host(request.task_type)
        who = request.identity
        if not host.is_sync:
            raise Refused("FAILED_PRECONDITION", f"{host.task_type} is asynchronous: CreateTask")
        if not self._runtime.allowed(who.project, who.domain):
            return Answer(Phase.FAILED, self._not_served(who.project, who.domain))
        try:
            task = tasks.build_task(host, request, key)
        except AgentError as error:
            return Answer(Phase.FAILED, str(error))
        flight = self._flights.get(key.hex) or self._start(host, task, request, deadline)
        return await self._ran(flight, deadline)

    async def _ran(self, flight: Flight, deadline: Deadline) -> Answer:
        flight.join(deadline)
        try:
            if not await wait_within(flight.work, deadline.left):
                return Answer(Phase.FAILED, _outlasted(flight.host))
            flight.delivered = True
            error = flight.work.exception()
            if error is not None:  # refused at the door, before `run` began
                return Answer(Phase.RETRYABLE_FAILED, str(error))
            answer = flight.work.result()
            assert isinstance(answer, Answer)  # synchronous agents answer
            return answer
        finally:
            self._leave(flight)

    async def _wait(self, flight: Flight, envelope: Envelope, deadline: Deadline) -> Envelope:
        flight.join(deadline)
        try:
            if not await wait_within(flight.work, deadline.left):
                return self._not_yet(flight, envelope, None)
            return self._outcome(flight, envelope)
        finally:
            self._leave(flight)

    def _outcome(self, flight: Flight, envelope: Envelope) -> Envelope:
        error = flight.work.exception()
        if error is None:
            made = flight.work.result()
            assert isinstance(made, Made)  # asynchronous agents make jobs
            flight.delivered = True
            envelope = replace(
                envelope,
                job=made.job.model_dump(mode="json"),
                adopted=made.adopted,
                wrote=made.wrote,
            )
            self._runtime.soft.created.put(
                envelope.key, Created(str(flight.task.fingerprint), envelope)
            )
            return envelope
        host, what = flight.host, verdict("create", error)
        if what is Verdict.LATER:
            return self._not_yet(flight, envelope, error)
        if what is Verdict.BUG:
            raise Refused("INTERNAL", self._runtime.bug(host, "create", error))
        return self._park(host, envelope, _phase(what), self._runtime.tell(host, "create", error))

    def _not_yet(self, flight: Flight, envelope: Envelope, error: BaseException | None) -> Envelope:
        """The budget is over and the vendor has not said yes."""
        host = flight.host
        if flight.submitting:
            try:
                handle = host.agent.handle(flight.task)
            except AgentError:
                handle = None
            if handle is not None:
                flight.unconfirmed = True
                log.warning(
                    "%s: answering create before the vendor did (%s)", host.task_type, error
                )
                return replace(envelope, job=handle.model_dump(mode="json"), unconfirmed=True)
            text = str(error) if error else f"{host.task_type}: the vendor did not answer in time"
        elif flight.admitted:
            text = str(error) if error else "an earlier attempt's job is not settled yet"
        else:
            text = str(error or _crowded(host))
        return self._park(host, envelope, Phase.RETRYABLE_FAILED, redact(text))

    def _start(
        self, host: AgentHost, task: Task[Any], request: CreateRequest, deadline: Deadline
    ) -> Flight:
        budget = Budget(
            until=deadline.until, repeat="any" if host.idempotency == "vendor" else "unsent"
        )
        flight = Flight(host, task, request.connection, request.generation, budget)
        flight.work = self._runtime.detached.start(self._fly(flight))
        self._flights[task.key.hex] = flight
        flight.work.add_done_callback(lambda _: self._landed(flight))
        return flight

    async def _fly(self, flight: Flight) -> Made | Answer:
        host = flight.host
        metrics = self._runtime.telemetry.metrics
        # Who waits for longer would come in with too little time left for the vendor, and so keep
        # the place from those that have it: under load no create at all would be in time.
        if not await host.creates.enter(flight.left / 2):
            metrics.admission(host.task_type, "create", "refused")
            raise Throttled(_crowded(host))
        flight.admitted = True
        metrics.in_flight(host.task_type, "create", 1)
        try:
            if host.is_sync:
                return await self._execute(flight)
            if self._runtime.settings.adopt and host.idempotency != "none":
                made = await self._settle(flight)
                if made is not None:
                    metrics.adopted(host.task_type)
                    return made
            flight.submitting = True
            job = await self._submit(flight, flight.task)
            return Made(job, wrote_by(flight.task.output_prefix))
        finally:
            host.creates.leave()
            metrics.in_flight(host.task_type, "create", -1)

    async def _submit(self, flight: Flight, task: Task[Any]) -> Any:
        """The job of `task`'s key: the one that is there, or a new one."""
        agent, idempotency = flight.host.agent, flight.host.idempotency
        if idempotency == "vendor":
            return await self._patiently(flight, "create", agent.create, task)
        if idempotency == "lookup":
            found = await self._patiently(flight, "find", agent.find, task)
            if found is not None:
                return found
        # Not asked again after a failure: the job may be there and not be found yet.
        return await self._operate(flight, "create", agent.create, task)

    async def _settle(self, flight: Flight) -> Made | None:
        """Earlier attempts first, the oldest first: the job of one of them may be there, or on
        its way from another replica, and nobody else will ever ask for it."""
        host, task = flight.host, flight.task
        vendor = host.idempotency == "vendor"
        numbers = earlier_attempts(task.output_prefix, task.identity.attempt, flight.generation)
        for number in numbers:
            earlier = tasks.as_attempt(task, self._runtime.settings.cluster, number)
            flying = self._flights.get(earlier.key.hex)
            if not vendor and flying and not await wait_within(flying.work, flight.left):
                raise Throttled(f"attempt {number} is still being submitted")
            operation, method = (
                ("create", host.agent.create) if vendor else ("find", host.agent.find)
            )
            try:
                job = await self._patiently(flight, operation, method, earlier)
            except JobConflict:
                continue
            if job is None or self._cancelling.dying(host, job):
                continue
            try:
                status = await self._patiently(flight, "get", host.agent.get, job, earlier)
            except JobNotFound:
                status = None  # just named and not visible yet
            except VendorError:
                raise
            except Exception as error:  # noqa: BLE001 # the agent's own code
                # Whatever is wrong with the earlier job, this attempt is not to blame.
                text = self._runtime.tell(host, "get", error)
                raise Unavailable(f"attempt {number} is not settled: {text}") from None
            if status is None or not history(status, task.timeout):
                log.info("%s: attempt takes over the job of attempt %d", host.task_type, number)
                return Made(job, number, adopted=True)
        return None

    async def _patiently(
        self, flight: Flight, operation: str, method: Any, of: Any, task: Any = None
    ) -> Any:
        """What is safe to repeat is repeated while the vendor fails and there is time."""
        tries = 0
        while True:
            try:
                return await self._operate(flight, operation, method, of, task)
            except VendorError as error:
                await pause(error, tries, flight.left)
                tries += 1

    async def _execute(self, flight: Flight) -> Answer:
        host, task = flight.host, flight.task
        try:
            outputs = await self._operate(flight, "run", host.agent.run, task)
            return Answer(
                Phase.SUCCEEDED, outputs=self._runtime.codec(outputs or {}, task.declared)
            )
        except Exception as error:  # noqa: BLE001 # the table knows them all
            return Answer(_phase(verdict("run", error)), self._runtime.tell(host, "run", error))

    async def _operate(
        self, flight: Flight, operation: str, method: Any, of: Any, task: Any = None
    ) -> Any:
        task = task or of
        call = KernelCall(
            flight.host, operation, task.identity, flight.budget, of, task.output_prefix,
            task.declared, flight.connection,
        )  # fmt: skip
        return await self._runtime.operate(flight.host, operation, method, of, call)

    def _leave(self, flight: Flight) -> None:
        flight.leave()
        if flight.work.done():
            self._landed(flight)

    def _landed(self, flight: Flight) -> None:
        """The flight has ended. A job that no caller was told of must not be forgotten."""
        self._flights.pop(flight.task.key.hex, None)
        if flight.waiting or flight.delivered or flight.work.cancelled() or flight.host.is_sync:
            return
        flight.delivered = True  # whatever follows, follows once
        host, error = flight.host, flight.work.exception()
        if error is not None:
            what = verdict("create", error)
            if flight.unconfirmed and what in (Verdict.FAIL, Verdict.RETRY):
                text = self._runtime.tell(host, "create", error)
                self._runtime.soft.verdicts.put(flight.task.key.hex, Parked(_phase(what), text))
            return
        made = flight.work.result()
        if flight.unconfirmed or not isinstance(made, Made):
            return
        cancel = host.idempotency == "none" or flight.last_attempt
        log.warning(
            "%s: the vendor named job %s after its caller had gone; %s", host.task_type, made.job,
            "cancelling it" if cancel else "a next attempt will find it",
        )  # fmt: skip
        self._runtime.telemetry.metrics.abandoned(host.task_type)
        if cancel:
            self._cancelling.detach(host, made.job, flight.task.identity, flight.connection)

    def _park(self, host: AgentHost, envelope: Envelope, phase: Phase, text: str) -> Envelope:
        return self._park_answer(host, envelope, Answer(phase, text))

    def _park_answer(self, host: AgentHost, envelope: Envelope, answer: Answer) -> Envelope:
        if answer.outputs is not None and len(answer.outputs) > SMALL:
            text = f"outputs of {len(answer.outputs)} bytes do not fit the {SMALL} that Flyte keeps"
            answer = Answer(Phase.FAILED, text)
        outputs = None if answer.outputs is None else base64.b64encode(answer.outputs).decode()
        if answer.phase is not Phase.SUCCEEDED:
            self._runtime.telemetry.metrics.parked(host.task_type, answer.phase.name)
            log.warning("%s: parked %s: %s", host.task_type, answer.phase.name, answer.message)
        return replace(envelope, parked=Parked(answer.phase, answer.message, outputs))

    def _not_served(self, project: str, domain: str) -> str:
        return (
            f"this service does not serve project {project!r} in domain {domain!r}; "
            "its operator sets FLYTEAGENTS_ALLOW"
        )


def dump_declared(declared: Mapping[str, Type]) -> str:
    """The declared outputs for the envelope, without columns where they take too much room."""
    text = dump_types(declared) if declared else ""
    if len(text) > SMALL // 20:
        text = dump_types({name: _narrow(of) for name, of in declared.items()})
    return text


def _narrow(of: Type) -> Type:
    return replace(of, columns=(), of=tuple(_narrow(part) for part in of.of))


def _phase(what: Verdict) -> Phase:
    return Phase.RETRYABLE_FAILED if what is Verdict.RETRY else Phase.FAILED


def _crowded(host: AgentHost) -> str:
    return f"{host.task_type}: {host.creates.limit} creates are under way; try later"


def _outlasted(host: AgentHost) -> str:
    return f"{host.task_type} did not end within the call; it must answer in a few seconds"
