"""What GetTask promises: a phase that is never taken back, soon, whatever the vendor is doing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import pytest

from flyteagents._client.rpc import Rpc
from flyteagents._status import Phase
from flyteagents.testing.contract.hooks import AgentHooks
from flyteagents.testing.contract.rig import FAILED, Rig, aged
from flyteagents.testing.vendor import Cut, Nonsense, Response, SlowReply, Step

TROUBLES: Mapping[str, Step] = {
    "throttles": Response(429, {"message": "slow down"}, {"Retry-After": "1"}),
    "is overloaded": Response(503),
    "fails": Response(500, {"message": "oops"}),
    "hangs up": Cut(),
    "speaks no HTTP": Nonsense(),
    "answers with a page": Response(200, "<html>maintenance</html>", {"content-type": "text/html"}),
    "answers with an empty object": Response(200, {}),
    "answers with a list": Response(200, []),
    "wants other credentials": Response(401),
    "forbids it": Response(403),
}
_RANK = {Phase.INITIALIZING: 0, Phase.RUNNING: 1, Phase.SUCCEEDED: 2}


class GetPromises(AgentHooks):
    """GetTask tells how the job is doing, whatever the vendor is doing."""

    @pytest.mark.parametrize("trouble", TROUBLES)
    async def test_get_never_fails_when_the_vendor(self, rig: Rig, trouble: str) -> None:
        """Flyte forgives five errors in a task's whole life; trouble keeps the last phase, and is
        no bug of the agent's."""
        attempt = rig.attempt(self.runs_long())
        meta = await rig.create(attempt, rig.first)
        await rig.reach(attempt, meta, rig.first, Phase.RUNNING)
        bugs = rig.bugs()
        rig.vendor.fault("look", TROUBLES[trouble], repeat=True)
        for _ in range(7):
            assert (await rig.get(attempt, meta, rig.first)).phase is Phase.RUNNING
        blind = await rig.get(attempt, meta, rig.second)
        assert blind.phase in (Phase.INITIALIZING, Phase.RUNNING)
        rig.vendor.heal()
        await rig.reach(attempt, meta, rig.second, Phase.RUNNING)
        assert rig.bugs() == bugs, rig.first.log[-2000:]

    async def test_a_state_that_the_agent_does_not_know_keeps_the_phase(self, rig: Rig) -> None:
        """Vendors add states, and a new one is no failure."""
        if rig.vendor.unknown_state is None:
            pytest.skip("this vendor's fake has no unknown state")
        attempt = rig.attempt(self.runs_long())
        meta = await rig.create(attempt, rig.first)
        await rig.reach(attempt, meta, rig.first, Phase.RUNNING)
        bugs = rig.bugs()
        rig.vendor.fault("look", rig.vendor.unknown_state, repeat=True)
        for _ in range(3):
            assert (await rig.get(attempt, meta, rig.first)).phase is Phase.RUNNING
        assert rig.bugs() == bugs, rig.first.log[-2000:]

    async def test_a_phase_is_never_taken_back(self, rig: Rig) -> None:
        """Replicas are asked in turn, and what they say follows from the job alone: the phase, the
        outputs, and the links, which must be complete in the first answer. The job of an agent that
        does not show `call.unchanged` what its phase follows from never ends."""
        attempt = rig.attempt(self.succeeds())
        meta = await rig.create(attempt, rig.first)
        answers: list[Rpc] = []
        end = time.monotonic() + 15
        while not answers or answers[-1].phase is not Phase.SUCCEEDED:
            # Not strictly in turn: replicas that count their polls must not agree.
            server = rig.second if len(answers) % 4 == 3 else rig.first
            answers.append(await rig.get(attempt, meta, server))
            assert time.monotonic() < end, f"it did not end: {[a.phase for a in answers]}"
            await asyncio.sleep(0.03)
        for _ in range(2):
            answers += [await rig.get(attempt, meta, s) for s in (rig.first, rig.second)]
        ranks = [_RANK.get(answer.phase or Phase.FAILED, -1) for answer in answers]
        assert ranks == sorted(ranks), [answer.phase for answer in answers]
        assert [a.outputs for a in answers[-4:]] == [answers[-1].outputs] * 4
        assert [list(a.links) for a in answers] == [list(answers[-1].links)] * len(answers)

    @pytest.mark.parametrize("end", ["well", "badly"])
    async def test_what_custom_info_says_is_said_until_the_end(self, rig: Rig, end: str) -> None:
        """Flyte merges the infos of a task's answers, so a key that is left out in the end keeps
        the value that it had before."""
        attempt = rig.attempt(self.succeeds() if end == "well" else self.fails())
        meta = await rig.create(attempt, rig.first)
        said: set[str] = set()
        until = time.monotonic() + 60
        while True:
            assert time.monotonic() < until, "it did not end"
            answer = await rig.get(attempt, meta, rig.first)
            if answer.phase is not None and answer.phase.terminal:
                break
            said |= answer.info.keys()
            await asyncio.sleep(0.03)
        # Not what a replica remembers: any of them may be asked last.
        for server in rig.servers:
            last = await rig.get(attempt, meta, server)
            left = sorted(said - last.info.keys())
            assert not left, f"the last answer leaves out {left}, or says None: see later_info"

    async def test_polls_that_overlap_share_one_look(self, rig: Rig) -> None:
        """Flyte sends them when polls are slow, and a poll should be one request."""
        attempt = rig.attempt(self.runs_long())
        meta = await rig.create(attempt, rig.first)
        rig.vendor.fault("look", SlowReply(1.5))
        before = rig.vendor.requests("look")
        await asyncio.gather(*(rig.get(attempt, meta, rig.first) for _ in range(6)))
        together = rig.vendor.requests("look") - before
        await rig.get(attempt, meta, rig.first)
        alone = rig.vendor.requests("look") - before - together
        assert together <= max(alone, 1), f"{together} requests for 6 polls, {alone} for one"
        assert alone <= 2, f"one poll made {alone} requests"

    async def test_a_known_phase_is_answered_quickly_by_a_slow_vendor(self, rig: Rig) -> None:
        """Flyte polls the jobs of all agents with ten workers."""
        attempt = rig.attempt(self.runs_long())
        meta = await rig.create(attempt, rig.first)
        await rig.reach(attempt, meta, rig.first, Phase.RUNNING)
        # For longer than a call may take: the answer comes before the vendor's.
        rig.vendor.fault("look", SlowReply(12.0), repeat=True)
        answer = await rig.get(attempt, meta, rig.first)
        assert answer.phase is Phase.RUNNING

    async def test_a_job_that_its_vendor_forgot_is_told_of_once_it_is_not_young(
        self, rig: Rig
    ) -> None:
        """A job is waited for at first, since it may not be visible yet; later its task fails."""
        attempt = rig.attempt(self.runs_long())
        meta = await rig.create(attempt, rig.first)
        bugs = rig.bugs()
        rig.vendor.fault("look", rig.vendor.missing, repeat=True)
        assert (await rig.get(attempt, meta, rig.second)).phase is Phase.INITIALIZING
        answer = await rig.get(attempt, aged(meta, 600), rig.second)
        assert answer.phase in FAILED
        assert answer.resource.message
        assert rig.bugs() == bugs, rig.second.log[-2000:]
