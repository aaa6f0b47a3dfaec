"""What the author of an agent tells the contract's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import ClassVar

import pytest
import pytest_asyncio

from flyteagents._agent import Idempotency
from flyteagents._client.attempt import FlyteTask
from flyteagents.testing.contract.control import VendorControl
from flyteagents.testing.contract.rig import Rig, rigged
from flyteagents.testing.contract.telling import Told, blocker
from flyteagents.testing.server import RealServer


class AgentHooks(Told):
    """The hooks of `AgentContract`: what is tested, and against which vendor."""

    pytestmark = pytest.mark.asyncio(loop_scope="class")

    task_type: ClassVar[str]
    idempotency: ClassVar[Idempotency]
    plugins: ClassVar[Sequence[str]]
    """Entry-point names of the plugins to load."""
    python_path: ClassVar[Sequence[Path]] = ()
    """Folders of plugins that are not installed, as in `RealServer`."""
    outputs: ClassVar[Mapping[str, object]] = {}
    """What `succeeds` returns."""
    base: ClassVar[str] = "s3://flyte"
    """What output prefixes begin with; a folder of this machine where jobs write files."""
    secret: ClassVar[str] = ""
    """A secret that `environment` or the vendor holds, and that nobody may ever see."""

    def vendor(self) -> AbstractAsyncContextManager[VendorControl]:
        """Start the vendor's fake, and say how it is controlled."""
        raise NotImplementedError

    def environment(self, vendor: VendorControl) -> Mapping[str, str]:
        """Variables for the server, with the fake's address and the credentials for it."""
        return {}

    def succeeds(self) -> FlyteTask:
        """A task that ends well in about a second, with `outputs`."""
        raise NotImplementedError

    def fails(self) -> FlyteTask:
        """A task whose job the vendor takes, and which then fails."""
        raise NotImplementedError

    def runs_long(self) -> FlyteTask:
        """A task that runs until somebody stops it."""
        raise NotImplementedError

    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def servers(cls) -> AsyncIterator[Rig]:
        of = cls()
        started = rigged(of.vendor(), of.environment, of.plugins, of.python_path, of.base)
        async with started as rig:
            yield rig

    @pytest_asyncio.fixture(loop_scope="class")
    async def rig(self, servers: Rig) -> AsyncIterator[Rig]:
        # Such an agent fails test after test, each when its time is over.
        if blocked := blocker([server.log for server in servers.servers]):
            pytest.fail(f"not tried, since an earlier test was held up: {blocked}", pytrace=False)
        yield servers
        await servers.clear()

    def other_replica(self, rig: Rig) -> RealServer:
        """Where a repeated CreateTask may land and must find the job."""
        return rig.first if self.idempotency == "none" else rig.second

    def needs_a_key(self) -> None:
        if self.idempotency == "none":
            pytest.skip("an agent with no idempotency promises nothing here")
