"""The contract, where a vendor shows less than it asks for."""

from __future__ import annotations

from typing import ClassVar

from flyteagents import Phase
from flyteagents.testing.contract import AgentContract, Rig
from flyteagents.testing.contract.rig import job


class StoppingLooksLikeRunning(AgentContract):
    """The vendor shows no difference between a job that runs and one that is being stopped.

    stopped: its words for one that was.
    """

    stopped: ClassVar[str]

    async def test_a_retry_does_not_adopt_a_job_that_is_being_stopped(self, rig: Rig) -> None:
        """Another replica cannot see it, and adopts it. When it has stopped the attempt may be
        retried, and that one starts anew."""
        rig.vendor.slow_cancel(6.0)  # longer than the next create may take
        first = rig.attempt(self.runs_long())
        meta = await rig.create(first, rig.first)
        await rig.reach(first, meta, rig.first, Phase.RUNNING)
        deleting = await rig.stopping(first, meta, rig.first)

        adopted = await rig.create(first.next(), rig.second)
        assert job(adopted) == job(meta)
        end = await rig.reach(first.next(), adopted, rig.second, Phase.RETRYABLE_FAILED)
        assert self.stopped in end.resource.message

        third = await rig.create(first.next().next(), rig.second)
        assert job(third) != job(meta)
        await deleting
