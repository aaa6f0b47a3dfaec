"""Releases that replace each other behind one name, as a Deployment of the chart does it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.deploy.charts import ROOT
from tests.deploy.names import NameServer

from flyteagents.testing import RealServer

SLOW = 30.0
"""Seconds. Nothing that these tests do takes as long."""
AGENTS = ROOT / "tests" / "agents"
OTHER_RELEASE = "FLYTEAGENTS_OTHER_RELEASE"
"""A folder with another release installed, by `pip install --target`; else one is made up."""


@dataclass(frozen=True)
class Release:
    """What `pip install` has left in a folder; None is what these tests run with."""

    name: str
    folder: Path | None = None


def next_release(folder: Path) -> Release:
    """This one as the next might be: its envelopes are of a version that is not known here."""
    if given := os.environ.get(OTHER_RELEASE):
        return Release("other", Path(given))
    package = folder / "flyteagents"
    shutil.copytree(ROOT / "core" / "src" / "flyteagents", package)
    envelope = package / "_kernel" / "envelope.py"
    text = envelope.read_text()
    assert "\nVERSION = 1\n" in text
    envelope.write_text(text.replace("\nVERSION = 1\n", "\nVERSION = 2\n"))
    about = folder / "flyteagents-9.9.9.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: flyteagents\nVersion: 9.9.9\n")
    return Release("next", folder)


class Replica(RealServer):
    """A server with an address of its own and the port of all of them, as a pod has."""

    def __init__(self, release: Release, address: str, port: int, env: Mapping[str, str]) -> None:
        path = [AGENTS] if release.folder is None else [release.folder, AGENTS]
        super().__init__(["jobs"], {"FLYTEAGENTS_HOST": address, **env}, path, port=port)
        self.release = release
        self.address = address

    @property
    def endpoint(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass
class Fleet:
    """All replicas of one agent service.

    settled: seconds for which a new pod must be ready before an old one is stopped, the chart's
        `minReadySeconds`.
    """

    names: NameServer
    port: int
    env: Mapping[str, str]
    settled: float
    running: list[Replica] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    _ending: list[asyncio.Task[None]] = field(default_factory=list)
    _started: int = 0

    async def start(self, release: Release) -> None:
        """One more pod. Its address is in the name once it is ready."""
        self._started += 1
        replica = Replica(release, f"127.0.0.{self._started + 1}", self.port, self.env)
        await asyncio.to_thread(replica.start)
        self.running.append(replica)
        self._publish()

    async def roll_out(self, release: Release) -> None:
        """Replace all, one by one: a new one is ready for a while before an old one is stopped."""
        for old in list(self.running):
            await self.start(release)
            await asyncio.sleep(self.settled)
            self.running.remove(old)
            # Kubernetes takes the address away and sends SIGTERM at the same time.
            self._publish()
            self._ending.append(asyncio.create_task(self._stop(old)))

    async def drained(self) -> None:
        await asyncio.gather(*self._ending)

    async def close(self) -> None:
        for replica in self.running:
            await asyncio.to_thread(replica.close)

    async def _stop(self, replica: Replica) -> None:
        begun = time.monotonic()
        self.codes.append(await asyncio.to_thread(replica.terminate, 130.0))
        seconds = time.monotonic() - begun
        assert seconds < SLOW, f"took {seconds:.0f} s to stop:\n{replica.log[-3000:]}"
        replica.close()

    def _publish(self) -> None:
        self.names.addresses = [replica.address for replica in self.running]


@contextlib.asynccontextmanager
async def fleet(
    release: Release, replicas: int, port: int, env: Mapping[str, str], settled: float
) -> AsyncIterator[Fleet]:
    async with NameServer() as names:
        made = Fleet(names, port, env, settled)
        try:
            await asyncio.gather(*(made.start(release) for _ in range(replicas)))
            yield made
            await made.drained()
        finally:
            await made.close()
