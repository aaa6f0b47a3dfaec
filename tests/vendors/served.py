"""What the vendors' agents have in common in a real server, called as Flyte calls it.

`AgentContract` has what every agent must do; here is what it takes a vendor's own API to show:
outages on the wire, refusals in the vendor's words, a restart in the middle of a job.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Generic, TypeVar

from flyteagents import Phase
from flyteagents.testing import FakePropeller, FakeVendor, FlyteTask, RealServer, Response

VendorT = TypeVar("VendorT", bound=FakeVendor)
SHORT = 5.0
"""Seconds for a create of what may pass, which is asked for again as long as there is time. A busy
machine needs some of it to answer at all."""


@contextlib.asynccontextmanager
async def flyte(
    plugin: str, environment: Mapping[str, str], *, secret: str = "", **options: Any
) -> AsyncIterator[FakePropeller]:
    """A server with the plugin, in whose log `secret` must not be seen, and a Flyte that calls it.
    options: of `FakePropeller`."""
    async with (
        RealServer([plugin], environment) as server,
        FakePropeller(server.endpoint, **options) as propeller,
    ):
        yield propeller
        assert not secret or secret not in server.log


async def assert_refused(
    propeller: FakePropeller, task: FlyteTask, phase: Phase, words: str
) -> None:
    """The vendor's no to a submit reaches the user, and is no error of a call, which would burn
    an attempt without saying why."""
    attempt = propeller.attempt(task)
    passing = phase is Phase.RETRYABLE_FAILED
    created = await propeller.create(attempt, deadline=SHORT if passing else 10.0)
    assert created.ok, created
    answer = await propeller.get(attempt, created.meta)
    assert (answer.code, answer.phase) == ("OK", phase), answer
    assert words in answer.resource.message


class Served(ABC, Generic[VendorT]):
    """Subclass it, and give it the fixture `vendor`.

    away: what the vendor answers while it is down, in the words `away_words`. cancels: the pattern
    of paths of cancels. unknown: the `resource_meta` of another connector's job that the vendor
    does not have.
    """

    plugin: ClassVar[str]
    away: ClassVar[Response]
    away_words: ClassVar[str]
    cancels: ClassVar[str]
    unknown: ClassVar[bytes]

    @abstractmethod
    def environment(self, vendor: VendorT) -> Mapping[str, str]:
        """The server's variables."""

    @abstractmethod
    def runs(self, vendor: VendorT, seconds: float) -> FlyteTask:
        """A task whose job runs so long (`math.inf`: until it is stopped), and then succeeds."""

    @abstractmethod
    def never_starts(self) -> FlyteTask:
        """A task that the agent refuses before the vendor is asked."""

    @abstractmethod
    def started(self, vendor: VendorT) -> int:
        """How many jobs were started."""

    def flyte(
        self, vendor: VendorT, **env: str
    ) -> contextlib.AbstractAsyncContextManager[FakePropeller]:
        return flyte(self.plugin, {**self.environment(vendor), **env})

    async def test_an_outage_is_not_seen_by_a_running_task(self, vendor: VendorT) -> None:
        async with self.flyte(vendor) as propeller:
            execution = propeller.start(self.runs(vendor, 3.0))
            await execution.until(Phase.RUNNING)
            await vendor.down()
            await asyncio.sleep(0.5)
            assert execution.outcome.phases[-1] is Phase.RUNNING
            await vendor.up()
            outcome = await execution.end()
        assert (outcome.phase, outcome.failures) == (Phase.SUCCEEDED, [])

    async def test_an_outage_that_outlasts_all_patience_may_be_retried(
        self, vendor: VendorT
    ) -> None:
        async with self.flyte(vendor, FLYTEAGENTS_OUTAGE_PATIENCE="0.3") as propeller:
            execution = propeller.start(self.runs(vendor, math.inf))
            await execution.until(Phase.RUNNING)
            vendor.script("GET", "*", self.away, repeat=True)
            await execution.until(Phase.RETRYABLE_FAILED)
            assert self.away_words in (await execution.end()).message
            assert execution.outcome.failures == []
            await vendor.until("POST", self.cancels)  # nobody deletes after it

    async def test_a_delete_of_what_does_not_run_is_ok(self, vendor: VendorT) -> None:
        async with self.flyte(vendor) as propeller:
            attempt = propeller.attempt(self.runs(vendor, 0.0))
            finished = await propeller.create(attempt)
            parked = await propeller.create(propeller.attempt(self.never_starts()))
            for meta in (finished.meta, parked.meta):
                assert (await propeller.delete(attempt, meta)).ok
            assert not [one for one in vendor.requests if fnmatchcase(one.path, self.cancels)]
            assert (await propeller.delete(attempt, self.unknown)).ok

    async def test_a_restarted_server_goes_on(self, vendor: VendorT) -> None:
        async with (
            RealServer([self.plugin], self.environment(vendor)) as server,
            FakePropeller(server.endpoint, wait_for_ready=True) as propeller,
        ):
            execution = propeller.start(self.runs(vendor, 3.0), repeats=1)
            await execution.until(Phase.RUNNING)
            await asyncio.to_thread(server.restart)
            outcome = await execution.end()
        assert outcome.phase is Phase.SUCCEEDED, outcome
        assert self.started(vendor) == 1
