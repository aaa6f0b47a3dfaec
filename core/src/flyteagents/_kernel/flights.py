"""The flights of one replica: how they go, and what becomes of those that land unheard.

The way of a flight: a place among the agent's creates, the earlier attempts settled, the submit.
When its callers have gone before it lands, the job that it made is nobody's: Flyte never got a
name for it, and so never asks about it and never deletes it
(flyteplugins .../webapi/agent/plugin.go:281-284).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from flyteagents._errors import InvalidTask, Throttled, VendorError
from flyteagents._kernel.absence import absent, never_sent
from flyteagents._kernel.answers import Answer
from flyteagents._kernel.call import CALL_LIMIT, ask, ask_patiently
from flyteagents._kernel.cancel import Cancelling
from flyteagents._kernel.carried import unpacked
from flyteagents._kernel.deadline import Deadline
from flyteagents._kernel.detached import LAST_PAUSE, pauses
from flyteagents._kernel.envelope import Parked, new_envelope
from flyteagents._kernel.flight import Flight, Made, Stage
from flyteagents._kernel.kernel import Kernel, log
from flyteagents._kernel.keys import attempt_number
from flyteagents._kernel.lane import RAISED
from flyteagents._kernel.lost import stop_lost
from flyteagents._kernel.open_job import OpenJob
from flyteagents._kernel.requests import CreateRequest
from flyteagents._kernel.served import ServedAgent
from flyteagents._kernel.settle import settle
from flyteagents._kernel.soft_state import Bounded
from flyteagents._kernel.tasks import build_task
from flyteagents._kernel.verdicts import Verdict, phase_of, verdict
from flyteagents._status import Phase
from flyteagents._task import Key, Task

FRESH = 30.0
"""Seconds for which a job that the vendor has named counts as running."""


@dataclass(frozen=True)
class Unheard:
    """What a flight made when its callers had gone; `at` is by `time.monotonic`. `opened` is the
    same as a job that can be cancelled, in a private server."""

    made: Made
    fingerprint: str
    at: float
    opened: OpenJob | None


class Flights:
    """The flights under way, by key, and what those made that landed unheard."""

    def __init__(self, kernel: Kernel, cancelling: Cancelling) -> None:
        self._kernel = kernel
        self._metrics = kernel.telemetry.metrics
        self._cancelling = cancelling
        self._under_way: dict[str, Flight] = {}
        self._unheard: Bounded[Unheard] = Bounded(1000, texts=lambda it: len(str(it.made.job)))
        # A private server's alone, whose client may die before its next attempt has looked.
        self._unanswered: Bounded[Flight] = Bounded(100)
        self._abandoned = False

    def under_way(self, key: str) -> Flight | None:
        return self._under_way.get(key)

    def start(
        self, served: ServedAgent, task: Task[Any], request: CreateRequest, deadline: Deadline
    ) -> Flight:
        """Begin the attempt's flight. Its callers `wait`."""
        flight = Flight(served, task, request, deadline)
        flight.abandoned = self._abandoned
        # What became of an earlier flight for the key says nothing about this one.
        self._kernel.soft.late_ends.pop(flight.key)
        self._kernel.soft.troubles.pop(flight.key)
        # Detached: at its deadline gRPC cancels the caller, and a submit that is torn down on the
        # wire leaves a job that nobody has a name for.
        flight.work = self._kernel.detached.start(self._fly(flight), told=True)
        self._under_way[flight.key] = flight
        return flight

    async def wait(self, flight: Flight, deadline: Deadline) -> bool:
        """Wait for a flight with the others that do. Whether it has landed in time."""
        try:
            landed = await flight.wait(deadline)
        finally:
            # Also when this caller is cancelled: `_landed_alone` has left it to those who wait.
            if flight.work.done():
                self._landed(flight)
            elif not flight.is_waited_for:
                flight.work.add_done_callback(lambda _: self._landed_alone(flight))
        return landed and flight.work.done()  # where it goes on, it has not landed yet

    def was_told_unconfirmed(self, flight: Flight, why: str) -> None:
        """A caller got a handle in place of the vendor's answer, because of `why`. Where the
        vendor dedupes the key, submitting goes on without a caller."""
        flight.unconfirmed = True
        self._kernel.soft.troubles.put(flight.key, why)
        # Landed before anybody was told, so `_landed` did not know that it is to go on. One that is
        # still under way is seen to by `_failed_unconfirmed`.
        if flight.work.done():
            self._go_on(flight)

    def resume(self, opened: OpenJob) -> None:
        """Submit on for an attempt that was answered unconfirmed by whichever replica, and whose
        job its vendor does not have. Where that replica does so too, the vendor dedupes the key.

        One that was cancelled on another replica may come here too, with a poll that was on its
        way: what is made then, is made while that cancel still looks for it (`Flight.ends_after`).
        """
        kernel, served, envelope = self._kernel, opened.served, opened.envelope
        if not opened.young:
            # A submit that goes on after its time is asked about no more.
            self.is_unwanted(envelope.key)
            return
        # Not what was cancelled, also when that is done: the vendor may have forgotten it since.
        if self._abandoned or self.under_way(envelope.key) or opened.seen.cancel_asked:
            return
        cluster, connection = kernel.settings.cluster, opened.connection
        request = unpacked(envelope, cluster, kernel.codec, connection)
        if request is None:
            return
        try:
            task = build_task(served, request, Key(envelope.key))
        except RAISED as error:  # a poll never fails for the agent's own code
            kernel.tell_seldom(served, "create", error)
            return
        if not task.fingerprint.matches(envelope.fingerprint):
            return

        flight = Flight(served, task, request, Deadline(None))
        flight.ends_after(time.time() - envelope.created)
        flight.stage = Stage.SUBMITTING
        flight.unconfirmed = True
        self._go_on(flight)

    def was_told_failed(self, flight: Flight) -> None:
        """A caller was told that the submit failed. Where its reply was lost and no attempt looks
        for it, the job that may be there is nobody's."""
        if self._is_nobodys(flight):
            self._lost(flight)
        elif self._kernel.private:
            self._unanswered.put(flight.key, flight)

    def was_deleted(self, key: str) -> None:
        """A DeleteTask: the attempt's job is to be cancelled, however late it comes."""
        self.is_unwanted(key)
        if flight := self._under_way.get(key):
            flight.deleted = True

    def is_unwanted(self, key: str) -> None:
        """Submitting the attempt's job does not go on."""
        flight = self._under_way.get(key)
        if flight is not None:
            flight.wanted = False
            flight.budget.closed = not flight.is_waited_for

    def nobody_comes(self) -> list[OpenJob]:
        """No attempt will follow: what those under way make is cancelled, and what others have
        made unheard comes back, to be cancelled. What was not answered is looked for."""
        self._abandoned = True
        for lost in self._unanswered.values():
            self._unanswered.pop(lost.key)  # a stop asks twice, and may see more the second time
            self._look_for(lost)
        for key, flight in self._under_way.items():
            flight.abandoned = True
            self.is_unwanted(key)
        return [each.opened for each in self._unheard.values() if each.opened is not None]

    def was_heard(self, key: str) -> None:
        """A caller has the attempt's job."""
        self._unheard.pop(key)
        self.was_settled(key)

    def was_settled(self, key: str) -> None:
        """It is known what became of the attempt's submit, so that its job is not looked for."""
        if flight := self._under_way.get(key):
            flight.deleted = False  # who has looked may have taken its job over
        self._unanswered.pop(key)

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
        if not await flight.enter(flight.budget.left / 2, self._under_way):
            self._metrics.admission.add(served.task_type, "create", "refused")
            raise Throttled(flight.waits_for)
        try:
            if served.is_sync:
                return await self._run(flight)
            flight.stage = Stage.SETTLING
            # The first attempt has none before it.
            if flight.task.identity.attempt and self.adopts(served):
                made = await settle(self._kernel, flight, self, self._cancelling)
                if made is not None:
                    self._metrics.adopted.add(served.task_type)
                    return made
            flight.stage = Stage.SUBMITTING
            if flight.budget.left <= 0:  # all callers have their answer: nothing new is sent
                raise Throttled(flight.waits_for)
            if served.idempotency == "lookup":
                self._kernel.soft.absences.put(flight.key, absent())
            job = await _submit(flight)
            return Made(job, flight.key, attempt_number(flight.task.output_prefix))
        finally:
            flight.leave()

    async def _run(self, flight: Flight) -> Answer:
        """A synchronous agent's work: every error is an answer."""
        served, task = flight.served, flight.task
        try:
            # ExecuteTaskSync's caller may allow more than any other call of an agent takes.
            seconds = max(CALL_LIMIT, flight.budget.left)
            outputs = await ask(flight.call("run", task), limit=seconds) or {}
            encoded = self._kernel.codec.outputs(outputs, task.declared)
            limit = self._kernel.settings.max_output_mb << 20
            if len(encoded) > limit:  # gRPC, or Flyte, would refuse it without these words
                raise InvalidTask(
                    f"the outputs take {len(encoded)} bytes, and Flyte reads {limit}: write them "
                    "to a file or a table and return its URI"
                )
            return Answer(Phase.SUCCEEDED, outputs=encoded)
        except Exception as error:  # noqa: BLE001 # the table knows them all
            phase = phase_of(verdict("run", error))
            return Answer(phase, self._kernel.tell(served, "run", error))

    def _landed_alone(self, flight: Flight) -> None:
        # Callers that wait take it from here: between the landing and their answer, another call
        # for the key must find the flight, or it would begin a second one.
        if not flight.is_waited_for:
            self._landed(flight)

    def _landed(self, flight: Flight) -> None:
        """The flight has ended. A job that no caller was told of must not be forgotten."""
        if not flight.work.done():  # it flies on, and this is about what it was before
            return
        if self._under_way.get(flight.key) is flight:  # and not the next one for this key
            del self._under_way[flight.key]
        if flight.served.is_sync:  # it leaves no job
            return
        if flight.work.cancelled():  # by a drain; its `exception()` would raise
            self._may_be_there(flight)
            return
        unheard, error = flight.is_unheard(), flight.work.exception()
        if error is not None and flight.served.idempotency == "lookup":
            absences = self._kernel.soft.absences
            if absences.get(flight.key) is None:  # it did not come to its submit
                absences.put(flight.key, never_sent())
        if error is None:
            if unheard and not flight.is_asked_about:
                self._made_unheard(flight, flight.work.result())
        elif flight.unconfirmed:
            self._failed_unconfirmed(flight, error)
        elif unheard:
            self._failed_unheard(flight, error)

    def _failed_unheard(self, flight: Flight, error: BaseException) -> None:
        """A no of the vendor's leaves no job; of its silence, and of a bug, nobody knows."""
        what = verdict("create", error)
        if what is Verdict.BUG:
            self._kernel.tell(flight.served, "create", error)
        if what in (Verdict.LATER, Verdict.BUG):
            self._lost(flight)

    def _failed_unconfirmed(self, flight: Flight, error: BaseException) -> None:
        """The vendor's no to a create that was answered before it, which GetTask tells; or its
        silence."""
        what = verdict("create", error)
        if what is Verdict.LATER:
            self._go_on(flight)
            return
        text = self._kernel.tell(flight.served, "create", error)
        if what is Verdict.BUG:  # the job may be there, so GetTask goes on looking
            self._kernel.soft.troubles.put(flight.key, text)
        else:
            # Else GetTask finds no such job, and can say only that it never arrived.
            self._kernel.soft.late_ends.put(flight.key, Parked(phase_of(what), text))

    def _sends(self, flight: Flight) -> bool:
        # In a drain nothing new is sent: another replica is asked how the job is doing.
        return flight.goes_on and not self._kernel.detached.draining

    def _go_on(self, flight: Flight) -> None:
        if self._sends(flight):
            work = self._kernel.detached.start(self._submit_on(flight), told=True)
            flight.flies_on(work)
            self._under_way[flight.key] = flight
            work.add_done_callback(lambda _: self._landed_alone(flight))

    async def _submit_on(self, flight: Flight) -> Made | Answer:
        """Submit until the vendor has said yes or no, or it is too late. The agent's places are
        for creates that are waited for: this takes one only while it asks."""
        served, pause = flight.served, pauses()
        while True:
            await asyncio.sleep(next(pause))
            if not self._sends(flight):
                raise Throttled(flight.waits_for)
            if not await flight.enter(LAST_PAUSE, self._under_way):
                continue
            try:
                if self._sends(flight):  # and has not waited too long for its place
                    job = await ask(flight.call("create", flight.task))
                    return Made(job, flight.key, attempt_number(flight.task.output_prefix))
            except VendorError as error:
                why = self._kernel.tell(served, "create", error)
                self._kernel.soft.troubles.put(flight.key, why)
            finally:
                flight.leave()

    def _lost(self, flight: Flight) -> None:
        """A submit ended without an answer and without a caller, so its job may be there. Where no
        attempt can follow, it is looked for under the name that we know, and stopped."""
        if not self._may_be_there(flight):
            return
        if self._is_nobodys(flight):
            self._look_for(flight)
        elif self._kernel.private:
            self._unanswered.put(flight.key, flight)

    def _look_for(self, flight: Flight) -> None:
        lost = stop_lost(self._kernel, self._cancelling, flight, flight.task)
        self._kernel.detached.start(lost)

    def _is_nobodys(self, flight: Flight) -> bool:
        """Whether no attempt will look for the flight's job."""
        return flight.last_attempt or not self.adopts(flight.served)

    def _may_be_there(self, flight: Flight) -> bool:
        """Whether something was sent for the attempt; that is told. The earlier ones are
        `settle`'s."""
        if flight.stage is not Stage.SUBMITTING:
            return False
        who, task_type = flight.task.identity, flight.served.task_type
        self._metrics.abandoned.add(task_type)
        log.warning(
            "%s: a submit was not answered; its job may run",
            task_type,
            extra={"execution": f"{who.project}/{who.domain}/{who.execution}"},
        )
        return True

    def _made_unheard(self, flight: Flight, made: Made | Answer) -> None:
        """A job that Flyte has no name for: cancelled, where no attempt can find it."""
        if not isinstance(made, Made):
            return
        served = flight.served
        cancel = flight.deleted or self._is_nobodys(flight)
        log.warning(
            "%s: the vendor named job %s after its caller had gone; %s",
            served.task_type,
            made.job,
            "cancelling it" if cancel else "a next attempt will find it",
        )
        self._metrics.abandoned.add(served.task_type)
        envelope = new_envelope(flight.task.identity, flight.key, flight.task.type)
        opened = OpenJob(served, made.job, envelope, connection=flight.connection)
        if cancel:
            self._cancelling.detach(opened)
        else:
            fingerprint, now = str(flight.task.fingerprint), time.monotonic()
            kept = opened if self._kernel.private else None
            self._unheard.put(flight.key, Unheard(made, fingerprint, now, kept))


async def _submit(flight: Flight) -> Any:
    """The job of the attempt's key: the one that is there, or a new one."""
    if flight.served.idempotency == "vendor":
        return await ask_patiently(flight.call("create", flight.task))
    if flight.served.idempotency == "lookup":
        # A repeated CreateTask may come to another replica, which has no memory of the first one
        # (flytepropeller/pkg/controller/nodes/task/handler.go:800-806).
        found = await ask_patiently(flight.call("find", flight.task))
        if found is not None:
            return found
    # Not asked again after a failure: the job may be there and not be found yet.
    return await ask(flight.call("create", flight.task))
