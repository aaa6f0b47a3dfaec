"""GetTask: how the job is doing, whatever the vendor is doing.

Flyte forgives five GetTask errors in a task's whole life. With the sixth it fails the task, or
never asks again and shows its last phase for ever (flyteplugins .../internal/webapi/cache.go:
99-110, monitor.go:33-41). So a poll never fails: what goes wrong is a hiccup, answered from memory.
And it polls the jobs of all agents with ten workers, so where a phase is known the answer does not
wait for a slow vendor: the poll runs on, and feeds the next answer.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from flyteagents._errors import AgentError, InvalidTask, Unavailable
from flyteagents._kernel.answers import CANCELLED, Answer
from flyteagents._kernel.call import KernelCall, ask
from flyteagents._kernel.cancel import Cancelling
from flyteagents._kernel.codec import check_complete
from flyteagents._kernel.copies import unshared
from flyteagents._kernel.deadline import Deadline
from flyteagents._kernel.detached import ended_or_late, turn
from flyteagents._kernel.ends import record_end
from flyteagents._kernel.envelope import Envelope
from flyteagents._kernel.kernel import Kernel, log
from flyteagents._kernel.lane import RAISED
from flyteagents._kernel.open_job import OpenJob
from flyteagents._kernel.seen import Seen
from flyteagents._kernel.served import ServedAgent
from flyteagents._kernel.stores import OUTPUTS
from flyteagents._kernel.verdicts import Verdict, cause, verdict
from flyteagents._redact import excerpt, redact
from flyteagents._status import Link, Phase, Status
from flyteagents._vendor.budget import Budget

QUICK = 2.0
"""Seconds to answer in where a phase is known. Ten workers then answer five polls a second even
if every vendor hangs; the half of that with which Flyte's default of ten a second is not met."""
POLL_LIMIT = 30.0
"""Seconds a poll may take, however long ago its callers were answered: Flyte asks again after 30 s
(flyteplugins .../webapi/agent/config.go:18-31)."""
OVERDUE = 2 * POLL_LIMIT + 10.0
"""Seconds after which a poll does not end any more, which may take two limits: the agent's look and
one at what the job wrote."""
SERIES = 10
"""Polls that must fail in a row, besides the patience, before a job is given up: with a handful
of polls, as after a pause of the caller's, time alone says little."""
STARTING = 60.0
"""Seconds for which a job of which nothing is known is said to be starting."""
HELD = 3
"""First polls that one replica holds at once: Flyte's ten workers have others to poll."""
NEW = 10.0
"""Seconds from its creation for which a job is new: a create takes 8 at most."""
STEP, GROWTH = 0.2, 1.5
"""Seconds between looks while a first poll is held, and what they grow by: four more requests. A
vendor that takes longer than a step has held the worker long enough."""
TEXT_LIMIT = 16 * 1024
"""Bytes of a message. A GetTask whose answer gRPC cannot send is one that fails."""
NOT_CARRIED = (
    "only the replica that took this task can submit it: it is too large for resource_meta, or may "
    "hold a secret"
)
"""Of an unconfirmed job without its request: what to know if the vendor stays away."""
_USER = re.compile(r"(?<=://)[^/@]*@")
"""A name and a password in a URL: an agent may make its links of the operator's settings."""


def by_age(envelope: Envelope) -> Answer:
    """The answer where nothing is known."""
    # Not QUEUED: flyteadmin drops it, with its message and its links
    # (flyteadmin/pkg/manager/impl/task_execution_manager.go:169-176).
    young = time.time() - envelope.created < STARTING
    return Answer(Phase.INITIALIZING if young else Phase.RUNNING)


class Polling:
    """Polls: shared, answered in time, and patient."""

    def __init__(
        self, kernel: Kernel, cancelling: Cancelling, resume: Callable[[OpenJob], None]
    ) -> None:
        self._kernel = kernel
        self._metrics = kernel.telemetry.metrics
        self._cancelling = cancelling
        self._resume = resume
        self._held = 0
        # Those that have a place among their agent's polls, the oldest first.
        self._inside: dict[asyncio.Task[Answer], OpenJob] = {}

    async def poll(self, opened: OpenJob, deadline: Deadline) -> Answer:
        """The job's answer; never fails."""
        served, seen = opened.served, opened.seen
        if seen.final is not None:
            return seen.final
        if not seen.looked_at:
            seen.looked_at = True
            if served.agent.may_end_soon:
                return await self._first_look(opened, deadline)
        polling = seen.poll  # kept: another caller may begin the next one before this one wakes up
        if polling is not None and seen.poll_age > OVERDUE:
            # Else the job would be said to run for ever, and no poll of it would ever fail.
            if self._leaves_behind(polling, served):
                seen.poll_ended()
            text = "get goes on after its time, since the agent catches the cancel that ends it"
            return self._failed(opened, Unavailable(f"{served.task_type}: {text}"))
        if polling is None:
            # Not waited for: that would hold one of the ten workers that poll all agents' jobs.
            if not self._enters(served):
                self._metrics.admission.add(served.task_type, "get", "remembered")
                return self._remembered(opened)
            # A drain does not wait for it: Flyte asks again anyway, and another replica.
            polling = self._kernel.detached.start(self._poll(opened), finish=False)
            self._inside[polling] = opened
            seen.poll_began(polling)
            await turn()
        if not polling.done():
            left = deadline.left
            await ended_or_late(polling, left if seen.phase is None else min(QUICK, left))
        if not polling.done() or polling.cancelled():
            return self._remembered(opened)
        return polling.result()

    def _enters(self, served: ServedAgent) -> bool:
        """Take a place among the agent's polls; one of a poll that is overdue, if need be. Nobody
        may ask for that one's job any more, and so find it overdue."""
        if served.polls.try_enter():
            return True
        for polling, opened in list(self._inside.items()):
            if opened.seen.poll_age <= OVERDUE:
                break
            if opened.served is served:
                self._leaves_behind(polling, served)
        return served.polls.try_enter()

    def _leaves_behind(self, polling: asyncio.Task[Answer], served: ServedAgent) -> bool:
        """Whether another poll may have the turn of one that is overdue; its place is given up."""
        if polling not in self._inside:
            return True
        if not served.left_behind.add("get", polling):
            return False
        self._leaves(polling)
        return True

    def _leaves(self, polling: asyncio.Task[Answer] | None) -> None:
        opened = self._inside.pop(polling, None) if polling else None
        if opened is not None:  # and was not left behind
            opened.served.polls.leave()

    async def _first_look(self, opened: OpenJob, deadline: Deadline) -> Answer:
        """The first poll of a job waits a moment for its end. Flyte polls a job when it is created,
        and then after its resync interval, 30 s as shipped (flytestdlib
        cache/in_memory_auto_refresh.go, `syncOnCreate`): a query of half a second would be found
        running, and its end be seen half a minute late."""
        began, seen = time.monotonic(), opened.seen
        answer = await self.poll(opened, deadline)
        seconds, pause = min(self._kernel.settings.first_look, deadline.left / 2), STEP
        slow = time.monotonic() - began > STEP
        # A job that is not new is another replica's: this is its first poll here alone.
        if slow or self._held >= HELD or time.time() - opened.envelope.created > NEW:
            return answer

        self._held += 1
        try:
            end = time.monotonic() + seconds
            while not (answer.phase.terminal or seen.failures.count or seen.cancel):
                left = end - time.monotonic()
                if left <= 0:
                    break
                await asyncio.sleep(min(pause, left))
                pause *= GROWTH
                answer = await self.poll(opened, deadline)
        finally:
            self._held -= 1
        return answer

    def _remembered(self, opened: OpenJob) -> Answer:
        """The last answer, or one by the job's age, with what is wrong while polls fail."""
        seen = opened.seen
        answer = seen.final or seen.latest or self._guess(opened)
        if seen.failures.count and not answer.phase.terminal:
            since = int(seen.failures.age)
            answer = replace(answer, message=f"no answer for {since} s: {seen.trouble}")
        # Also with a guess: the links of a phase's first answer are the ones that Flyte shows
        # (flytepropeller/pkg/controller/nodes/task/handler.go:565-570).
        return answer if answer.links else replace(answer, links=self._links(opened))

    def _guess(self, opened: OpenJob) -> Answer:
        guess = by_age(opened.envelope)
        info = _lasting(opened, guess.phase, {})
        return opened.seen.was_guessed(replace(guess, info=info))

    async def _poll(self, opened: OpenJob) -> Answer:
        """Ask the agent, once for all who wait."""
        seen, this = opened.seen, asyncio.current_task()
        budget = Budget(time.monotonic() + POLL_LIMIT, limit=POLL_LIMIT, retries=False)
        call = opened.call("get", budget, seen)
        try:
            status = await ask(call, limit=POLL_LIMIT)
            again = seen.said_again(status, call.heard)
            # Links that could not be made are tried again.
            if again is not None and (again.links or opened.served.linkless):
                seen.vendor_spoke()
                return again
            answer = await self._answer(opened, call, status)
            seen.vendor_spoke()  # last: what is wrong with the answer is a failure too
            if answer.phase.terminal:
                return self._ended(opened, answer, status)
            # What is shown again is not read again, and so would never get its links.
            whole = answer.links or opened.served.linkless
            return self._remember(seen, answer, call.heard if whole else None)
        except Exception as error:  # noqa: BLE001 # the table knows them all
            if seen.poll is not this:  # what another poll has heard since is newer
                return self._remembered(opened)
            return self._failed(opened, error)
        finally:
            self._leaves(this)
            if seen.poll is this:
                seen.poll_ended()

    async def _answer(self, opened: OpenJob, call: KernelCall, status: Status) -> Answer:
        """What the vendor said, as Flyte wants it."""
        seen = opened.seen
        phase = status.phase or seen.phase or by_age(opened.envelope).phase
        if phase is Phase.INITIALIZING and seen.phase is Phase.RUNNING:
            phase = Phase.RUNNING
        text = opened.served.words(status.message or "", status.code)
        if phase is Phase.ABORTED:
            # Flyte drops the message of an aborted task. A job that was taken over may have been
            # stopped for the attempt it was made for, so this attempt's retry starts another.
            phase = Phase.RETRYABLE_FAILED if opened.envelope.adopted else Phase.FAILED
            text = text or "the job was stopped at its vendor"
            status = replace(status, info={**status.info, CANCELLED: True})
        outputs = None
        if phase is Phase.SUCCEEDED:
            try:
                outputs = await self._outputs(opened, call, status)
            except InvalidTask as error:
                # Not left to `_failed`, which would stop the job: this one has ended.
                phase, text = Phase.FAILED, str(error)
        text = excerpt(text, TEXT_LIMIT) if text else ""
        links, info = self._links(opened), _lasting(opened, phase, status.info)
        # An agent that counts on in the mapping it gave would change what was said before, and so
        # say nothing new.
        with suppress(RecursionError):  # the wire tells what it cannot send
            info = unshared(info)
        if seen.latest is not None and seen.latest.says(phase, text, links, info):
            return seen.latest
        return Answer(phase, text, outputs, links, info)

    async def _outputs(self, opened: OpenJob, call: KernelCall, status: Status) -> bytes | None:
        """The outputs of a job that has succeeded; None where it has written them itself. Raises
        InvalidTask for what does not fit."""
        declared = opened.declared
        # Where they are absent Flyte reads outputs.pb; present ones, even empty, it writes itself
        # (flyteplugins .../webapi/agent/plugin.go:411-431).
        if status.outputs is None:
            if declared:
                await self._look_at_file(call)
            return None
        outputs = self._kernel.codec.outputs(status.outputs, declared)
        limit = self._kernel.settings.max_output_mb << 20
        if len(outputs) > limit:
            raise InvalidTask(
                f"the outputs take {len(outputs)} bytes, and Flyte reads {limit}: write them to a "
                "file or a table and return its URI, or raise storage.limits.maxDownloadMBs in "
                "Flyte's configuration and FLYTEAGENTS_MAX_OUTPUT_MB"
            )
        return outputs

    async def _look_at_file(self, call: KernelCall) -> None:
        """Flyte will look for the outputs that the job wrote, and fails the task without them:
        later, and not in these words. Raises InvalidTask."""
        try:
            # Their names alone: whether Flyte can read the values is Flyte's to say.
            written = await asyncio.wait_for(call.written_outputs(), POLL_LIMIT)
        except InvalidTask:
            raise
        # asyncio's own: in Python 3.10 the built-in TimeoutError is another class.
        except (AgentError, asyncio.TimeoutError) as error:
            # Flyte may have access where this server has none: no reason to fail the job.
            log.warning("%s: cannot see what the job wrote: %s", call.task_type, error)
            return
        if written is None:
            names = ", ".join(sorted(call.declared))
            raise InvalidTask(
                f"the task declares outputs ({names}), and the job returned none and wrote no "
                f"{OUTPUTS} below {call.output_prefix}"
            )
        check_complete(dict.fromkeys(written), call.declared)

    def _failed(self, opened: OpenJob, error: Exception) -> Answer:
        """What becomes of a poll's error: a hiccup, as long as patience lasts."""
        served, seen, settings = opened.served, opened.seen, self._kernel.settings
        what = verdict("get", error)
        if what is Verdict.MISSING:
            return self._missing(opened)
        text = seen.told_before(error) or self._kernel.tell(served, "get", error)
        if what is Verdict.FAIL:
            return self._give_up(opened, Phase.FAILED, text)
        refused = what is Verdict.REFUSED
        series = seen.poll_failed(error, text, refused=refused)
        self._kernel.soft.grew(seen)
        patience = settings.auth_patience if refused else settings.outage_patience
        self._metrics.hiccups.add(served.task_type, cause(error))
        log.warning("%s: poll %d in a row failed: %s", served.task_type, seen.failures.count, text)
        if series.count >= SERIES and series.age >= patience:
            text = f"given up after {int(series.age)} s without an answer: {text}"
            return self._give_up(opened, Phase.RETRYABLE_FAILED, text)
        return self._remembered(opened)

    def _missing(self, opened: OpenJob) -> Answer:
        """The vendor has no such job."""
        links, seen, envelope = self._links(opened), opened.seen, opened.envelope
        # What this replica saw is newer than what the one saw that took the create.
        trouble = self._kernel.soft.troubles.get(envelope.key) or envelope.why
        trouble = f": {trouble}" if trouble else ""
        # Once seen, it has arrived: to submit it again, or to have it retried, may repeat its work.
        awaited = envelope.unconfirmed and not seen.there
        # Said from the first poll on: the author may make the task smaller before the next outage.
        if not envelope.request and opened.served.idempotency == "vendor":
            trouble = f"{trouble} ({NOT_CARRIED})"
        if awaited:
            self._resume(opened)
        if opened.young:
            text = ""
            if awaited:
                waited = int(time.time() - envelope.created)
                text = (
                    f"the vendor has not taken the job on yet, {waited} s after the first request"
                )
                text += trouble
            phase = seen.phase or Phase.INITIALIZING
            info = _lasting(opened, phase, {})
            return self._remember(seen, Answer(phase, text, links=links, info=info))
        if awaited:
            # Nothing has run, so a retry repeats nothing; below, the job may have done its work.
            text = f"the job never arrived at its vendor{trouble}"
            return self._ended(opened, Answer(Phase.RETRYABLE_FAILED, text, links=links))
        text = "the vendor no longer knows this job; running it again may repeat its work"
        return self._ended(opened, Answer(Phase.FAILED, text, links=links))

    def _give_up(self, opened: OpenJob, phase: Phase, text: str) -> Answer:
        """A failure that the vendor did not report: nobody deletes after it, so stop the job."""
        self._cancelling.detach(opened)
        self._metrics.abandoned.add(opened.served.task_type)
        return self._ended(opened, Answer(phase, text, links=self._links(opened)))

    def _ended(self, opened: OpenJob, answer: Answer, status: Status | None = None) -> Answer:
        if status is None:  # an end that the agent did not tell
            answer = replace(answer, info=_lasting(opened, answer.phase, {}))
        if opened.seen.first_end():
            record_end(self._kernel, opened.envelope, answer, status)
            if status is not None:
                self._kernel.soft.saw_end(opened.envelope, status)
        return self._remember(opened.seen, answer)

    def _remember(self, seen: Seen, answer: Answer, heard: int | None = None) -> Answer:
        before, kept = seen.latest, seen.was_answered(answer, heard)
        if kept is not before:
            self._kernel.soft.grew(seen)
        return kept

    def _links(self, opened: OpenJob) -> Sequence[Link]:
        latest = opened.seen.latest
        if latest is not None and latest.links:  # they follow from the job alone
            return latest.links
        try:
            links = opened.served.agent.links(opened.job)
            if not links:
                return ()
            return tuple(Link(redact(link.name), redact(_USER.sub("", link.uri))) for link in links)
        except RAISED as error:  # a missing link must not fail a poll
            self._kernel.tell_seldom(opened.served, "links", error)
            return ()


def _lasting(opened: OpenJob, phase: Phase, info: Mapping[str, object]) -> Mapping[str, object]:
    """The info with the agent's word for keys that an earlier answer may have had. Not what this
    replica has sent: another one may have been asked before."""
    if None in info.values():
        # Flyte 1 stores a task's first info as it is, nulls and all, and takes a null in a later
        # one for the end of its key (flyteadmin .../transformers/task_execution.go, mergeCustom).
        info = {name: value for name, value in info.items() if value is not None}
    later = opened.served.agent.later_info
    return {**later, **info} if later and phase is not Phase.INITIALIZING else info
