"""The methods on raw bytes: what is read of a poll, and how often."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from flyteidl.admin import agent_pb2
from flyteidl2.connector import connector_pb2
from tests.unit.kernel_setup import Setup
from tests.unit.test_opening import PREFIX, meta

from flyteagents import Phase, Status
from flyteagents._kernel.service import Service
from flyteagents._wire import messages
from flyteagents._wire.methods import REMEMBERED, Methods

FLYTE1 = "flyteidl.service.AsyncAgentService"
FLYTE2 = "flyteidl2.connector.AsyncConnectorService"
META = meta()


class Aborted(Exception):
    pass


class Context:
    """A caller with ten seconds."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def time_remaining(self) -> float:
        return 10.0

    async def abort(self, code: grpc.StatusCode, text: str) -> None:
        raise Aborted(code, text)


class Polls:
    """Asks for one job through the methods, and counts what they read."""

    def __init__(self, setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
        self.setup = setup
        self.read = 0
        self._handlers = Methods(Service(setup.kernel)).handlers()
        job_request = messages.job_request

        def counted(*given: Any) -> Any:
            self.read += 1
            return job_request(*given)

        monkeypatch.setattr(messages, "job_request", counted)

    async def ask(self, service: str = FLYTE1, **fields: Any) -> Any:
        pb: Any = connector_pb2 if service == FLYTE2 else agent_pb2
        request = pb.GetTaskRequest(**{"resource_meta": META, "output_prefix": PREFIX, **fields})
        handler: Any = self._handlers[service]["GetTask"]
        raw = await handler.unary_unary(request.SerializeToString(), Context())
        return pb.GetTaskResponse.FromString(raw).resource


async def test_a_poll_that_comes_again_is_not_read_again(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls = Polls(setup, monkeypatch)
    for phase in (Phase.INITIALIZING, Phase.RUNNING, Phase.RUNNING):
        setup.agent.script["get"] = [Status(phase)]
        assert (await polls.ask()).phase == phase.value
    assert polls.read == 1


async def test_the_same_bytes_from_the_other_generation_are_another_poll(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls = Polls(setup, monkeypatch)
    for service in (FLYTE1, FLYTE2, FLYTE1, FLYTE2):
        await polls.ask(service)
    assert polls.read == 2


async def test_a_poll_without_end_is_not_kept(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls = Polls(setup, monkeypatch)
    for _ in range(2):
        await polls.ask(output_prefix=f"s3://b/{'x' * REMEMBERED}/0")
    assert polls.read == 2
    assert not setup.kernel.soft.requests.values()


async def test_a_poll_with_secrets_is_not_kept(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls = Polls(setup, monkeypatch)
    for _ in range(2):
        await polls.ask(FLYTE2, connection={"secrets": {"token": "of-tenant-a"}})
    assert polls.read == 2
    assert not setup.kernel.soft.requests.values()
