"""Agents that each break one promise, for the contract to catch. All but their one fault they
have from the sound ones in `tests/agents`."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from tests.agents.job_agents import (
    KeyedAgent,
    NamedAgent,
    Script,
    State,
    TaggedAgent,
    VendorJob,
)
from tests.badly_behaved.agents import bad_handles

from flyteagents import (
    Agent,
    AgentError,
    Call,
    Endpoint,
    InvalidTask,
    JobConflict,
    JobNotFound,
    Link,
    Phase,
    Reply,
    Status,
    Task,
    VendorError,
    hookimpl,
)

API = 1


class IgnoresTheKey(KeyedAgent):
    """Every create is another job. The tag only lets the tests count them."""

    task_type = "ignores_the_key"

    async def create(self, task: Task[Script], call: Call) -> VendorJob:
        body = {**self.body(task), "tag": task.key.hex}
        return VendorJob(id=(await call.http.post("/jobs", into=State, json=body)).id)


class LooksBeforeItSubmits(TaggedAgent):
    """Says that the vendor dedupes, and only looks first: a late submit is not seen."""

    task_type = "looks_before_it_submits"
    idempotency = "vendor"  # the lie that is to be caught

    async def create(self, task: Task[Script], call: Call) -> VendorJob:
        return await self.find(task, call) or await super().create(task, call)


class FingerprintsThePrefix(KeyedAgent):
    """No two attempts do the same work in its eyes, so none takes over another's job."""

    task_type = "fingerprints_the_prefix"

    def fingerprint(self, task: Task[Script]) -> Mapping[str, object]:
        return {"script": task.config.script, "prefix": task.output_prefix}


class TakesAnyJob(NamedAgent):
    """A name that is taken is its job, whatever that does."""

    task_type = "takes_any_job"

    async def create(self, task: Task[Script], call: Call) -> VendorJob:
        await call.http.put(f"/jobs/{task.key.hex}", json=self.body(task), accept=[409])
        return VendorJob(id=task.key.hex)


class BlocksInCreate(KeyedAgent):
    """Waits for the vendor with the whole server."""

    task_type = "blocks_in_create"

    async def create(self, task: Task[Script], call: Call) -> VendorJob:
        headers = {
            "Idempotency-Key": task.key.hex,
            "Authorization": f"Bearer {await call.secret('jobs_token')}",
        }
        data = json.dumps(self.body(task)).encode()
        request = urllib.request.Request(f"{self.settings.url}/jobs", data, headers)
        with urllib.request.urlopen(request) as reply:  # noqa: ASYNC210 # the fault
            return VendorJob(id=json.load(reply)["id"])


class BlocksInGet(KeyedAgent):
    """Sleeps with the whole server, when its vendor is slow."""

    task_type = "blocks_in_get"

    async def get(self, job: VendorJob, call: Call) -> Status:
        began = time.monotonic()
        try:
            return await asyncio.wait_for(super().get(job, call), 0.5)
        except asyncio.TimeoutError:
            time.sleep(12.0 - (time.monotonic() - began))  # noqa: ASYNC251 # the fault
            raise


class WrapsErrors(KeyedAgent):
    """Turns what the vendor says into errors of its own."""

    task_type = "wraps_errors"

    async def create(self, task: Task[Script], call: Call) -> VendorJob:
        try:
            return await super().create(task, call)
        except AgentError as error:
            raise RuntimeError(f"submit failed: {error}") from error

    async def cancel(self, job: VendorJob, call: Call) -> None:
        try:
            await super().cancel(job, call)
        except AgentError as error:
            raise RuntimeError(f"cancel failed: {error}") from error


class TakesAnOutageForTheUsersFault(KeyedAgent):
    """Everything but 200 is the task's fault."""

    task_type = "takes_an_outage_for_the_users_fault"

    def explain(self, reply: Reply) -> AgentError | None:
        return InvalidTask(f"the vendor answered {reply.status}")


class FailsJobsInAnOutage(KeyedAgent):
    """A vendor that does not answer has lost the job, it thinks."""

    task_type = "fails_jobs_in_an_outage"

    async def get(self, job: VendorJob, call: Call) -> Status:
        try:
            return await super().get(job, call)
        except (VendorError, JobNotFound) as error:
            return Status(Phase.FAILED, str(error))


class TrustsReplies(KeyedAgent):
    """Takes every reply for what the vendor's documentation promises."""

    task_type = "trusts_replies"

    async def look(self, job: VendorJob, call: Call) -> State:
        reply = (await call.http.get(f"/jobs/{job.id}")).json()
        return State(id=reply["id"], state=reply["state"])


class RaisesOnUnknownStates(KeyedAgent):
    """Knows all states that there will ever be."""

    task_type = "raises_on_unknown_states"

    async def get(self, job: VendorJob, call: Call) -> Status:
        status = await super().get(job, call)
        if status.phase is None:
            raise ValueError("unknown state")
        return status


class TakesUnknownStatesForFailures(KeyedAgent):
    """What is not known cannot be good."""

    task_type = "takes_unknown_states_for_failures"

    async def get(self, job: VendorJob, call: Call) -> Status:
        status = await super().get(job, call)
        return status if status.phase else Status(Phase.FAILED, "unknown state")


class GoesBackwards(KeyedAgent):
    """The phase follows from how often this process was asked."""

    task_type = "goes_backwards"
    asked: ClassVar[Counter[str]] = Counter()

    async def get(self, job: VendorJob, call: Call) -> Status:
        self.asked[job.id] += 1
        status = await super().get(job, call)
        return status if self.asked[job.id] > 3 else Status(Phase.INITIALIZING)


class LinksLater(KeyedAgent):
    """Learns its links when the job has run."""

    task_type = "links_later"
    ran: ClassVar[set[str]] = set()

    async def get(self, job: VendorJob, call: Call) -> Status:
        status = await super().get(job, call)
        if status.phase is Phase.SUCCEEDED:
            self.ran.add(job.id)
        return status

    def links(self, job: VendorJob) -> Sequence[Link]:
        return super().links(job) if job.id in self.ran else ()


class ForgetsItsInfo(KeyedAgent):
    """Says how many are ahead while the job waits, and nothing of it later."""

    task_type = "forgets_its_info"

    async def get(self, job: VendorJob, call: Call) -> Status:
        status = await super().get(job, call)
        ended = status.phase is not None and status.phase.terminal
        return status if ended else replace(status, info={"ahead": 18})


class ShowsOneReplyOfTwo(KeyedAgent):
    """Tells by one reply whether anything is new, and has the state from another one."""

    task_type = "shows_one_reply_of_two"

    async def get(self, job: VendorJob, call: Call) -> Status:
        reply = await call.http.get("/jobs", params={"tag": "nobody's"})
        return call.unchanged(reply) or await super().get(job, call)


class EndsItsInfoWithNull(KeyedAgent):
    """Says how many are ahead while the job waits, and takes that back with null."""

    task_type = "ends_its_info_with_null"

    async def get(self, job: VendorJob, call: Call) -> Status:
        status = await super().get(job, call)
        ended = status.phase is not None and status.phase.terminal
        return replace(status, info={"ahead": None if ended else 18})


class AsksTooMuch(KeyedAgent):
    """Four requests for a poll."""

    task_type = "asks_too_much"

    async def get(self, job: VendorJob, call: Call) -> Status:
        for _ in range(3):
            await self.look(job, call)
        return await super().get(job, call)


class TakesMissingForDone(KeyedAgent):
    """A job that is not there any more must have ended well."""

    task_type = "takes_missing_for_done"

    async def get(self, job: VendorJob, call: Call) -> Status:
        try:
            return await super().get(job, call)
        except JobNotFound:
            return Status(Phase.SUCCEEDED)


class RaisesOnMissingJobs(KeyedAgent):
    """A job that is not there is a bug, it thinks."""

    task_type = "raises_on_missing_jobs"

    async def cancel(self, job: VendorJob, call: Call) -> None:
        try:
            await super().cancel(job, call)
        except JobNotFound:
            raise LookupError(job.id) from None


class CancelsNothing(KeyedAgent):
    """Says yes, and does nothing."""

    task_type = "cancels_nothing"

    async def cancel(self, job: VendorJob, call: Call) -> None:
        return


class CallsItStoppedTooEarly(KeyedAgent):
    """A cancel that was asked for is as good as done."""

    task_type = "calls_it_stopped_too_early"

    async def get(self, job: VendorJob, call: Call) -> Status:
        status = await super().get(job, call)
        return Status(Phase.ABORTED) if status.cancelling else status


class HidesThatItIsStopping(KeyedAgent):
    """A job that is being stopped looks like one that runs."""

    task_type = "hides_that_it_is_stopping"

    async def get(self, job: VendorJob, call: Call) -> Status:
        return replace(await super().get(job, call), cancelling=False)


class DestroysResults(KeyedAgent):
    """Its cancel removes the job, finished or not."""

    task_type = "destroys_results"

    async def cancel(self, job: VendorJob, call: Call) -> None:
        await call.http.delete(f"/jobs/{job.id}")


class LosesTheReason(KeyedAgent):
    """Failed is failed."""

    task_type = "loses_the_reason"

    async def get(self, job: VendorJob, call: Call) -> Status:
        return replace(await super().get(job, call), message=None)


class ReturnsTexts(KeyedAgent):
    """Its outputs are texts, whatever the task declares."""

    task_type = "returns_texts"

    async def get(self, job: VendorJob, call: Call) -> Status:
        status = await super().get(job, call)
        return replace(status, outputs={k: str(v) for k, v in (status.outputs or {}).items()})


class RefusesItsOwnJobs(KeyedAgent):
    """Takes its own job for somebody else's when it asks for it again."""

    task_type = "refuses_its_own_jobs"

    async def create(self, task: Task[Script], call: Call) -> VendorJob:
        headers = {"Idempotency-Key": task.key.hex}
        reply = await call.http.post("/jobs", json=self.body(task), headers=headers)
        if reply.status != 201:
            raise JobConflict("there is such a job")
        return VendorJob(id=reply.json()["id"])


class AdoptsNothing(KeyedAgent):
    """Takes no job over, and so has each attempt's work done anew."""

    task_type = "adopts_nothing"

    async def adopts(self, task: Task[Script], job: VendorJob, call: Call) -> bool:
        return False


class AsksItselfForItsEndpoint(KeyedAgent):
    """Makes a request to say where requests go to."""

    task_type = "asks_itself_for_its_endpoint"

    async def endpoint(self, of: object, call: Call) -> Endpoint:
        await call.http.get("/jobs")
        return await super().endpoint(of, call)


@hookimpl
def register_agents() -> Sequence[type]:
    here = [
        cls
        for cls in globals().values()
        if isinstance(cls, type) and issubclass(cls, Agent) and cls.__module__ == __name__
    ]
    return [*here, *bad_handles.AGENTS]
