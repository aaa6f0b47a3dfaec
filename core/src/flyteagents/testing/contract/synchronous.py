"""The tests that every synchronous agent should pass."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest
import pytest_asyncio

from flyteagents._client.attempt import Attempt, FlyteTask, Generation
from flyteagents._client.caller import Caller
from flyteagents._status import Phase
from flyteagents.testing.contract.telling import Told
from flyteagents.testing.propeller import FakePropeller
from flyteagents.testing.server import RealServer


class SyncAgentContract(Told):
    """As `AgentContract`, for work that ends within the call; it grows by the same rules."""

    pytestmark = pytest.mark.asyncio(loop_scope="class")

    task_type: ClassVar[str]
    plugins: ClassVar[Sequence[str]]
    python_path: ClassVar[Sequence[Path]] = ()
    outputs: ClassVar[Mapping[str, object]] = {}
    """What `succeeds` returns."""

    def environment(self) -> Mapping[str, str]:
        """Variables for the server."""
        return {}

    def succeeds(self) -> FlyteTask:
        """A task that ends well, with `outputs`."""
        raise NotImplementedError

    def fails(self) -> FlyteTask:
        """A task that fails."""
        raise NotImplementedError

    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def server(cls) -> AsyncIterator[RealServer]:
        async with RealServer(cls.plugins, cls().environment(), cls.python_path) as server:
            yield server

    @pytest.mark.parametrize("generation", [1, 2])
    async def test_a_task_succeeds_with_the_outputs_it_declares(
        self, server: RealServer, generation: Generation
    ) -> None:
        """Within one call of Flyte 1's, and by CreateTask and GetTask in Flyte 2."""
        async with FakePropeller(server.endpoint, generation=generation) as propeller:
            assert propeller.agents.get(self.task_type) is (generation == 1)
            outcome = await propeller.run(self.succeeds())
            assert outcome.phase is Phase.SUCCEEDED, outcome
            assert outcome.outputs == self.outputs
            assert outcome.failures == []

    @pytest.mark.parametrize("generation", [1, 2])
    async def test_a_failure_is_told_with_its_reason(
        self, server: RealServer, generation: Generation
    ) -> None:
        """And never as an answer that is not terminal, which kills Flyte's workers."""
        async with FakePropeller(server.endpoint, generation=generation) as propeller:
            outcome = await propeller.run(self.fails())
            assert outcome.phase is Phase.FAILED, outcome
            assert len(outcome.message) > len("failed to run the job: ")
            assert "Traceback" not in outcome.message
            assert outcome.failures == []

    async def test_flyte_1_may_send_it_as_an_asynchronous_task(self, server: RealServer) -> None:
        """Which it does when the type was missing from one ListAgents answer."""
        async with Caller(server.endpoint) as caller:
            attempt = Attempt(self.succeeds())
            created = await caller.create(attempt, deadline=3.0)
            assert created.ok, created
            answer = await caller.get(attempt, created.meta)
            assert answer.phase is Phase.SUCCEEDED
            assert (await caller.delete(attempt, created.meta)).ok
