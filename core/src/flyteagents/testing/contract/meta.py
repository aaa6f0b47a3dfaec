"""What `resource_meta`, messages and logs promise."""

from __future__ import annotations

from flyteagents.testing.contract.hooks import AgentHooks
from flyteagents.testing.contract.rig import Rig
from flyteagents.testing.propeller import FakePropeller
from flyteagents.testing.vendor import Response


class MetaPromises(AgentHooks):
    """Small, checked, and without secrets."""

    async def test_the_task_type_is_listed_for_both_generations(self, rig: Rig) -> None:
        """ListAgents and ListConnectors are instant, and name the task type."""
        async with (
            FakePropeller(rig.first.endpoint, generation=1) as flyte1,
            FakePropeller(rig.first.endpoint, generation=2) as flyte2,
        ):
            for propeller in (flyte1, flyte2):
                assert propeller.agents.get(self.task_type) is False
                assert propeller.history[0].seconds < 5

    async def test_resource_meta_is_small(self, rig: Rig) -> None:
        """It is stored in etcd with the workflow, for every task that runs."""
        for task in (self.succeeds(), self.fails(), self.runs_long()):
            meta = await rig.create(rig.attempt(task), rig.first)
            assert len(meta) <= 1024, f"{len(meta)} bytes"

    async def test_damaged_resource_meta_is_refused_before_the_vendor_is_asked(
        self, rig: Rig
    ) -> None:
        """Whatever byte is changed, and wherever it is cut."""
        attempt = rig.attempt(self.runs_long())
        meta = await rig.create(attempt, rig.first)
        before = rig.vendor.requests() if rig.vendor.faulty else 0
        for at in range(0, len(meta), 3):
            flipped = meta[:at] + bytes([meta[at] ^ 1]) + meta[at + 1 :]
            for damaged in (flipped, meta[:at]):
                for ask in (rig.caller.get, rig.caller.delete):
                    rpc = await ask(attempt, damaged, endpoint=rig.first.endpoint)
                    assert rpc.code == "INVALID_ARGUMENT", (damaged, rpc)
        if rig.vendor.faulty:
            assert rig.vendor.requests() == before, "the vendor was asked about a damaged handle"

    async def test_no_secret_is_seen_anywhere(self, rig: Rig) -> None:
        """Not in `resource_meta`, which Flyte logs, nor in messages, links or our logs; not even
        when the vendor quotes it."""
        if not self.secret:
            return
        seen: list[str] = []
        quoted = Response(400, {"error": {"message": f"bad token {self.secret}"}})
        for what in ("", "submit", "look") if rig.vendor.faulty else ("",):
            rig.vendor.heal()
            attempt = rig.attempt(self.fails())
            if what == "submit":
                rig.vendor.fault("submit", quoted, repeat=True)
            meta = await rig.create(attempt, rig.first)
            if what == "look":
                rig.vendor.fault("look", quoted, repeat=True)
            answer = await rig.get(attempt, meta, rig.first)
            seen += [meta.decode(), str(answer.resource), answer.message]
        seen += [rig.first.log, rig.second.log]
        for text in seen:
            at = text.find(self.secret)
            assert at < 0, f"...{text[max(at - 200, 0) : at + 100]}..."
