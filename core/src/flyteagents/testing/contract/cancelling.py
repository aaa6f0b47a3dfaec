"""What DeleteTask promises: it can be repeated, destroys nothing, and means that a job stopped."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from flyteagents._status import Phase
from flyteagents.testing.contract.hooks import AgentHooks
from flyteagents.testing.contract.rig import Rig, job
from flyteagents.testing.vendor import Response


class DeletePromises(AgentHooks):
    """DeleteTask stops what runs, and is OK for what does not."""

    async def test_a_cancelled_job_has_stopped_when_delete_answers(self, rig: Rig) -> None:
        """On whichever replica, and again: the next attempt may come 70 ms later."""
        attempt = rig.attempt(self.runs_long())
        meta = await rig.create(attempt, rig.first)
        await rig.reach(attempt, meta, rig.first, Phase.RUNNING)
        await rig.delete(attempt, meta, rig.second)
        assert rig.live(attempt) == 0, "DeleteTask was OK, and the job runs on"
        for server in (rig.first, rig.second):
            assert (await rig.caller.delete(attempt, meta, endpoint=server.endpoint)).ok

    async def test_delete_waits_for_a_cancel_that_takes_time(self, rig: Rig) -> None:
        """Accepted is not stopped."""
        rig.vendor.slow_cancel(2.0)
        attempt = rig.attempt(self.runs_long())
        meta = await rig.create(attempt, rig.first)
        await rig.reach(attempt, meta, rig.first, Phase.RUNNING)
        await rig.delete(attempt, meta, rig.first)
        assert rig.live(attempt) == 0, "DeleteTask was OK, and the job runs on"

    async def test_a_retry_does_not_adopt_a_job_that_is_being_stopped(self, rig: Rig) -> None:
        """The vendor takes longer than Flyte waits, and the next attempt is on another replica."""
        rig.vendor.slow_cancel(3.0)
        attempt = rig.attempt(self.runs_long())
        meta = await rig.create(attempt, rig.first)
        await rig.reach(attempt, meta, rig.first, Phase.RUNNING)
        deleting = await rig.stopping(attempt, meta, rig.first)
        following = await rig.create(attempt.next(), rig.second)
        assert job(following) != job(meta)
        assert rig.started(attempt.next()) == 1
        await deleting

    async def test_a_vendor_that_fails_for_a_moment_does_not_fail_delete(self, rig: Rig) -> None:
        """Flyte 1 aborts the whole workflow after eleven failed DeleteTasks."""
        attempt = rig.attempt(self.runs_long())
        meta = await rig.create(attempt, rig.first)
        rig.vendor.fault("look", *[Response(503)] * 2)
        rig.vendor.fault("cancel", *[Response(503)] * 2)
        rpc = await rig.caller.delete(attempt, meta, endpoint=rig.second.endpoint)
        assert rpc.ok, rpc
        assert rig.live(attempt) == 0

    async def test_delete_is_ok_for_attempts_that_have_no_job(self, rig: Rig) -> None:
        """A failure that was parked comes back for its DeleteTask."""
        rig.vendor.fault("submit", rig.vendor.refused, repeat=True)
        attempt = rig.attempt(self.runs_long())
        meta = await rig.create(attempt, rig.first)
        assert (await rig.caller.delete(attempt, meta, endpoint=rig.second.endpoint)).ok

    async def test_delete_is_ok_for_a_job_that_its_vendor_forgot(self, rig: Rig) -> None:
        """Anything else would be asked again, eleven times or for ever."""
        attempt = rig.attempt(self.runs_long())
        meta = await rig.create(attempt, rig.first)
        bugs = rig.bugs()
        rig.vendor.fault("look", rig.vendor.missing, repeat=True)
        rig.vendor.fault("cancel", rig.vendor.missing, repeat=True)
        assert (await rig.caller.delete(attempt, meta, endpoint=rig.second.endpoint)).ok
        assert rig.bugs() == bugs, rig.second.log[-2000:]

    async def test_the_results_of_a_finished_job_survive_delete(self, rig: Rig) -> None:
        """Flyte 2 deletes an hour after success; here the vendor cannot even be asked first
        whether the job has ended."""
        attempt = rig.attempt(self.succeeds())
        meta = await rig.create(attempt, rig.first)
        done = await rig.reach(attempt, meta, rig.first, Phase.SUCCEEDED)
        if rig.vendor.faulty:
            rig.vendor.fault("look", Response(503), repeat=True)
        seen = rig.vendor.requests("look") if rig.vendor.faulty else 0
        # Its replica has asked the vendor for nothing yet, and may be slow to.
        deleting = asyncio.ensure_future(rig.delete(attempt, meta, rig.second))
        if rig.vendor.faulty:  # the second look comes after the cancel
            await rig.until(lambda: rig.vendor.requests("look") > seen + 1, "two looks")
            rig.vendor.heal()
        await deleting
        await rig.restart(rig.second)  # it remembers nothing
        again = await rig.get(attempt, meta, rig.second)
        assert again.phase is Phase.SUCCEEDED, again.resource.message
        assert again.outputs == done.outputs
        following = await rig.create(attempt.next(), rig.second)
        assert await rig.reach(attempt.next(), following, rig.second, Phase.SUCCEEDED)

    async def test_a_job_can_be_cancelled_before_it_is_looked_at(self, rig: Rig) -> None:
        """Abort may follow CreateTask at once; nothing else knows the job."""
        attempt = replace(rig.attempt(self.runs_long()))
        meta = await rig.create(attempt, rig.first)
        await rig.delete(attempt, meta, rig.first)
        assert rig.live(attempt) == 0
