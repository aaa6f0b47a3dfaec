"""What CreateTask promises: one attempt, one job, in time; what goes wrong is told by GetTask."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from flyteagents._client.attempt import Generation
from flyteagents._status import Phase
from flyteagents.testing.contract.hooks import AgentHooks
from flyteagents.testing.contract.rig import FAILED, Rig, job
from flyteagents.testing.propeller import FakePropeller
from flyteagents.testing.vendor import Delay, DropReply, Held, Response, SlowReply


class CreatePromises(AgentHooks):
    """One attempt, one job, in time, and what goes wrong is parked."""

    @pytest.mark.parametrize("generation", [1, 2])
    async def test_a_task_succeeds_with_the_outputs_it_declares(
        self, rig: Rig, generation: Generation
    ) -> None:
        """Under a FlytePropeller that repeats its CreateTask and polls every replica."""
        replicas = (rig.first.endpoint, self.other_replica(rig).endpoint)
        flyte = FakePropeller(*replicas, generation=generation, base=self.base)
        async with flyte as propeller:
            task = propeller.start(self.succeeds(), repeats=1)
            outcome = await task.end()
            assert outcome.phase is Phase.SUCCEEDED, outcome
            assert outcome.outputs == self.outputs
            assert {k: type(v) for k, v in outcome.outputs.items()} == {
                k: type(v) for k, v in self.outputs.items()
            }
            assert outcome.failures == []
            assert rig.started(task.attempt) == 1

    async def test_a_job_that_fails_says_why_and_the_next_attempt_has_its_own(
        self, rig: Rig
    ) -> None:
        """A failed job is history: it is reported with the vendor's words, and not adopted."""
        attempt = rig.attempt(self.fails())
        meta = await rig.create(attempt, rig.first)
        failed = await rig.reach(attempt, meta, rig.first, *FAILED)
        assert failed.resource.message.strip(), "the user is not told why"
        assert len(failed.resource.message) < 4096
        assert "Traceback" not in failed.resource.message
        await rig.create(attempt.next(), rig.second)
        assert rig.started(attempt.next()) == 1

    async def test_a_repeated_create_names_the_same_job(self, rig: Rig) -> None:
        """CreateTask is repeated with the same output prefix, on whichever replica."""
        attempt = rig.attempt(self.runs_long())
        meta = await rig.create(attempt, rig.first)
        again = await rig.create(attempt, self.other_replica(rig))
        assert job(again) == job(meta)
        assert rig.started(attempt) == 1

    async def test_creates_at_the_same_time_start_one_job(self, rig: Rig) -> None:
        """Two rounds of a controller that restarts may overlap."""
        attempt = rig.attempt(self.runs_long())
        # A look-up may miss a submit that is under way on another replica; that window is stated.
        second = rig.second if self.idempotency == "vendor" else rig.first
        metas = await asyncio.gather(
            *(rig.create(attempt, server) for server in (rig.first, second, rig.first))
        )
        assert [job(meta) for meta in metas] == [job(metas[0])] * 3
        assert rig.started(attempt) == 1

    async def test_a_server_that_is_killed_while_it_creates_loses_no_job(self, rig: Rig) -> None:
        """The vendor has the job, and nobody was told."""
        self.needs_a_key()
        rig.vendor.fault("submit", SlowReply(60.0))
        attempt = rig.attempt(self.runs_long())
        lost = asyncio.ensure_future(rig.caller.create(attempt, endpoint=rig.second.endpoint))
        await rig.until(lambda: rig.started(attempt) == 1, "the job is started")
        await rig.restart(rig.second)
        assert not (await lost).ok
        job(await rig.create(attempt, rig.second))
        assert rig.started(attempt) == 1

    async def test_the_next_attempt_takes_over_a_job_whose_reply_was_lost(self, rig: Rig) -> None:
        """Flyte comes back with the next output prefix, and never cancels the first job."""
        self.needs_a_key()
        if rig.vendor.faulty:
            rig.vendor.fault("submit", DropReply())
            # Else the server would send it again by itself, and learn of the job.
            rig.vendor.fault("submit", Response(503), repeat=True)
        attempt = rig.attempt(self.succeeds())
        await rig.create_and_leave(
            attempt, rig.first, lambda: rig.started(attempt) > 0, "the job is started"
        )
        rig.vendor.heal()
        meta = await rig.create(attempt.next(), rig.second)
        await rig.reach(attempt.next(), meta, rig.first, Phase.SUCCEEDED)
        assert rig.started(attempt, attempt.next()) == 1

    async def test_a_submit_that_arrives_late_does_not_double_the_job(self, rig: Rig) -> None:
        """The next attempt is quicker than the first one's request."""
        if self.idempotency != "vendor":
            pytest.skip("only a vendor that dedupes our key can promise this")
        arrives = asyncio.Event()
        rig.vendor.fault("submit", [Held(arrives), DropReply()])
        attempt, before = rig.attempt(self.runs_long()), rig.vendor.requests("submit")
        await rig.create_and_leave(
            attempt, rig.first, lambda: rig.vendor.requests("submit") > before, "it is submitted"
        )
        job(await rig.create(attempt.next(), rig.second))
        arrives.set()
        await asyncio.sleep(0.3)  # for a second job to be started
        assert rig.started(attempt, attempt.next()) == 1

    async def test_a_key_that_is_used_for_other_work_is_a_conflict(self, rig: Rig) -> None:
        """The task fails and says so, instead of getting another task's results."""
        self.needs_a_key()
        attempt = rig.attempt(self.runs_long())
        await rig.create(attempt, rig.first)
        other = replace(attempt, task=self.fails())
        meta = await rig.create(other, rig.second)
        assert (await rig.get(other, meta, rig.second)).phase is Phase.FAILED
        assert rig.started(attempt) == 1
        assert rig.live(attempt) == 1, "the first task's job was touched"

    async def test_create_answers_in_time_while_its_vendor_hangs(self, rig: Rig) -> None:
        """And the server goes on serving everybody else."""
        running = rig.attempt(self.runs_long())
        meta = await rig.create(running, rig.first)
        before = rig.vendor.requests("submit")
        rig.vendor.fault("submit", Delay(12.0), repeat=True)
        creating = asyncio.ensure_future(rig.create(rig.attempt(self.runs_long()), rig.first))
        await rig.until(lambda: rig.vendor.requests("submit") > before, "it is submitted")
        try:
            assert (await rig.caller.list_agents(rig.first.endpoint)).ok
            await rig.get(running, meta, rig.first)
            held_up = creating.done()
        finally:
            await asyncio.wait({creating})
        await creating
        assert not held_up, "a vendor that hangs held up everybody else"

    async def test_what_the_vendor_refuses_at_create_is_told_by_get(self, rig: Rig) -> None:
        """An error of CreateTask would burn an attempt without saying why."""
        rig.vendor.fault("submit", rig.vendor.refused, repeat=True)
        attempt = rig.attempt(self.runs_long())
        meta = await rig.create(attempt, rig.first)
        answer = await rig.get(attempt, meta, rig.second)
        assert answer.phase in FAILED
        assert answer.resource.message

    async def test_a_vendor_that_is_down_at_create_costs_one_attempt_at_most(
        self, rig: Rig
    ) -> None:
        """The attempt is parked as retryable, or its job comes to be; one job is what remains."""
        rig.vendor.fault("submit", Response(503), repeat=True)
        attempt = rig.attempt(self.succeeds())
        meta = await rig.create(attempt, rig.first)
        answer = await rig.get(attempt, meta, rig.first)
        assert answer.phase in (Phase.RETRYABLE_FAILED, Phase.INITIALIZING), answer
        rig.vendor.heal()
        following = attempt.next()
        meta = await rig.create(following, rig.second)
        await rig.reach(following, meta, rig.second, Phase.SUCCEEDED)
        assert rig.started(attempt, following) == 1
