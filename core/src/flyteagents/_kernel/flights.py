"""The flights of one replica: how they go, and what becomes of those that land unheard.

The way of a flight: a place among the agent's creates, the earlier attempts settled, the submit.
When its callers have gone before it lands, the job that it made is nobody's: Flyte never got a
name for it, and so never asks about it and never deletes it
(flyteplugins .../webapi/agent/plugin.go:281-284).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from flyteagents._errors import Throttled
from flyteagents._kernel.answers import Answer
from flyteagents._kernel.call import ask, ask_patiently
from flyteagents._kernel.cancel import Cancelling
from flyteagents._kernel.deadline import Deadline
from flyteagents._kernel.envelope import Parked, new_envelope
from flyteagents._kernel.flight import Flight, Made, Stage
from flyteagents._kernel.kernel import Kernel, log
from flyteagents._kernel.keys import attempt_number
from flyteagents._kernel.open_job import OpenJob
from flyteagents._kernel.requests import CreateRequest
from flyteagents._kernel.served import ServedAgent
from flyteagents._kernel.settle import settle
from flyteagents._kernel.soft_state import Bounded
from flyteagents._kernel.verdicts import Verdict, phase_of, verdict
from flyteagents._status import Phase
from flyteagents._task import Task

FRESH = 30.0
"""Seconds for which a job that the vendor has named counts as running."""


@dataclass(frozen=True)
class Unheard:
    """What a flight made when its callers had gone; `at` is by `time.monotonic`."""

    made: Made
    fingerprint: str
    at: float


class Flights:
    """The flights under way, by key, and what those made that landed unheard."""

    def __init__(self, kernel: Kernel, cancelling: Cancelling) -> None:
        self._kernel = kernel
        self._metrics = kernel.telemetry.metrics
        self._cancelling = cancelling
        self._under_way: dict[str, Flight] = {}
        self._unheard: Bounded[Unheard] = Bounded(1000)

    def under_way(self, key: str) -> Flight | None:
        return self._under_way.get(key)

    def start(
        self, served: ServedAgent, task: Task[Any], request: CreateRequest, deadline: Deadline
    ) -> Flight:
        """Begin the attempt's flight. Its callers `wait`."""
        flight = Flight(served, task, request, deadline)
        flight.work = self._kernel.detached.start(self._fly(flight))
        self._under_way[flight.key] = flight
        flight.work.add_done_callback(lambda _: self._landed(flight))
        return flight

    async def wait(self, flight: Flight, deadline: Deadline) -> bool:
        """Wait for a flight with the others that do. Whether it has landed in time."""
        try:
            return await flight.wait(deadline)
        finally:
            if flight.work.done():
                self._landed(flight)

    def was_heard(self, key: str) -> None:
        """A caller has the attempt's job."""
        self._unheard.pop(key)

    def just_named(self, key: str, task: Task[Any]) -> Made | None:
        """The job for the same work that a flight for `key` has made a moment ago, unheard."""
        unheard = self._unheard.pop(key)
        if unheard is None or time.monotonic() - unheard.at > FRESH:
            return None
        return unheard.made if task.fingerprint.matches(unheard.fingerprint) else None

    def adopts(self, served: ServedAgent) -> bool:
        """Whether an attempt takes over the jobs of earlier ones."""
        return self._kernel.settings.adopt and served.idempotency != "none"

    async def _fly(self, flight: Flight) -> Made | Answer:
        served = flight.served
        # Who waits for longer would come in with too little time left for the vendor, and so keep
        # the place from those that have it: under load no create at all would be in time.
        if not await served.creates.enter(flight.budget.left / 2):
            self._metrics.admission.add(served.task_type, "create", "refused")
            raise Throttled(flight.waits_for)
        try:
            if served.is_sync:
                return await self._run(flight)
            flight.stage = Stage.SETTLING
            if self.adopts(served):
                made = await settle(self._kernel, flight, self, self._cancelling)
                if made is not None:
                    self._metrics.adopted.add(served.task_type)
                    return made
            flight.stage = Stage.SUBMITTING
            job = await _submit(flight)
            return Made(job, flight.key, attempt_number(flight.task.output_prefix))
        finally:
            served.creates.leave()

    async def _run(self, flight: Flight) -> Answer:
        """A synchronous agent's work: every error is an answer."""
        served, task = flight.served, flight.task
        try:
            outputs = await ask(flight.call("run", task)) or {}
            encoded = self._kernel.codec.outputs(outputs, task.declared)
            return Answer(Phase.SUCCEEDED, outputs=encoded)
        except Exception as error:  # noqa: BLE001 # the table knows them all
            phase = phase_of(verdict("run", error))
            return Answer(phase, self._kernel.tell(served, "run", error))

    def _landed(self, flight: Flight) -> None:
        """The flight has ended. A job that no caller was told of must not be forgotten."""
        if self._under_way.get(flight.key) is flight:  # and not the next one for this key
            del self._under_way[flight.key]
        if flight.served.is_sync or not flight.is_unheard():
            return
        error = flight.work.exception()
        if error is not None:
            self._failed_unheard(flight, error)
        elif not flight.unconfirmed:
            self._made_unheard(flight, flight.work.result())

    def _failed_unheard(self, flight: Flight, error: BaseException) -> None:
        """The vendor's no to a create that was answered unconfirmed: GetTask tells it."""
        what = verdict("create", error)
        if flight.unconfirmed and what in (Verdict.FAIL, Verdict.RETRY):
            text = self._kernel.tell(flight.served, "create", error)
            self._kernel.soft.late_ends.put(flight.key, Parked(phase_of(what), text))

    def _made_unheard(self, flight: Flight, made: Made | Answer) -> None:
        """A job that Flyte has no name for: cancelled, where no attempt can find it."""
        if not isinstance(made, Made):
            return
        served = flight.served
        cancel = flight.last_attempt or not self.adopts(served)
        log.warning(
            "%s: the vendor named job %s after its caller had gone; %s",
            served.task_type,
            made.job,
            "cancelling it" if cancel else "a next attempt will find it",
        )
        self._metrics.abandoned.add(served.task_type)
        if cancel:
            task = flight.task
            envelope = new_envelope(task.identity, flight.key, task.type)
            opened = OpenJob(served, made.job, envelope, connection=flight.connection)
            self._cancelling.detach(opened)
        else:
            fingerprint = str(flight.task.fingerprint)
            self._unheard.put(flight.key, Unheard(made, fingerprint, time.monotonic()))


async def _submit(flight: Flight) -> Any:
    """The job of the attempt's key: the one that is there, or a new one."""
    create = flight.call("create", flight.task)
    if flight.served.idempotency == "vendor":
        return await ask_patiently(create)
    if flight.served.idempotency == "lookup":
        found = await ask_patiently(flight.call("find", flight.task))
        if found is not None:
            return found
    # Not asked again after a failure: the job may be there and not be found yet.
    return await ask(create)
