"""The agent keeps the promises that every agent should keep, as far as Snowflake keeps its part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from tests.snowflake.driving import CONFIG, TASK_TYPE
from tests.snowflake.fake_snowflake import BASE, FakeSnowflake, Repeat
from tests.snowflake.logins import Logins, private_key
from tests.snowflake.statements import FOREVER, Plan, Statement
from tests.vendors.contract import StoppingLooksLikeRunning

from flyteagents import Idempotency, Key, Phase, StructuredDataset
from flyteagents.testing import (
    FakePropeller,
    FlyteTask,
    Generation,
    Response,
    SlowReply,
    task_template,
)
from flyteagents.testing.contract import HttpControl, Rig, VendorControl
from flyteagents.testing.contract.rig import job


class ResultUri(str):
    """Equal to every result's URI that begins with it: its end is the id of the query."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and other.startswith(str(self))

    def __hash__(self) -> int:
        return super().__hash__()


class SnowflakeControl(HttpControl):
    """Controls the Snowflake to test against."""

    def __init__(self, snowflake: FakeSnowflake) -> None:
        def statements(key: Key) -> Iterator[Statement]:
            return (one for one in snowflake.submitted if key.hex in one.tag)

        def slow_cancel(seconds: float) -> None:
            snowflake.will("forever", replace(FOREVER, dies=seconds))

        super().__init__(
            snowflake,
            submit=("POST", BASE),
            look=("GET", f"{BASE}/*"),
            cancel=("POST", f"{BASE}/*/cancel"),
            started=lambda key: len(list(statements(key))),
            live=lambda key: sum(one.live for one in statements(key)),
            missing=Response(404, {"code": "390404", "message": "no such statement"}),
            refused=Response(403, {"code": "390422", "message": "IP not allowed"}),
            unknown_state=Response(200, {"code": "777777", "message": "hibernating"}),
            slow_cancel=slow_cancel,
        )


class TestSnowflake(StoppingLooksLikeRunning):
    """Without the look-up, where a repeated requestId is answered with the first statement."""

    task_type = TASK_TYPE
    idempotency: ClassVar[Idempotency] = "vendor"
    plugins = ("snowflake",)
    stopped = "SQL execution canceled"
    outputs: ClassVar[Mapping[str, object]] = {
        "results": StructuredDataset(ResultUri("snowflake://me:acct/wh/db/public/"))
    }
    secret = "the-programmatic-access-token"
    repeats: ClassVar[Repeat] = Repeat.SAME
    settings: ClassVar[Mapping[str, str]] = {}

    @asynccontextmanager
    async def vendor(self) -> AsyncIterator[VendorControl]:
        async with FakeSnowflake() as snowflake:
            snowflake.repeats = self.repeats
            snowflake.logins = Logins({"ACCT.ME": [0]}, pats={TestSnowflake.secret})
            snowflake.will("slowly", Plan(pending=0.1, running=0.2))
            snowflake.will("nowhere", Plan(error=("002003", "42S02", "no such table")))
            snowflake.will("forever", FOREVER)
            yield SnowflakeControl(snowflake)

    def environment(self, vendor: VendorControl) -> Mapping[str, str]:
        return {
            "FLYTEAGENTS_SNOWFLAKE_URL": vendor.url,
            "FLYTEAGENTS_SECRET_SNOWFLAKE_TOKEN": TestSnowflake.secret,
            **self.settings,
        }

    def task(self, statement: str, **options: Any) -> FlyteTask:
        return task_template(
            TASK_TYPE,
            custom=CONFIG,
            sql=statement,
            inputs={"n": 1},
            outputs={"results": StructuredDataset},
            **options,
        )

    def succeeds(self) -> FlyteTask:
        return self.task("SELECT 'slowly', %(n)s")

    def fails(self) -> FlyteTask:
        return self.task("SELECT * FROM nowhere")

    def runs_long(self) -> FlyteTask:
        return self.task("SELECT 'forever'")

    async def test_a_key_that_is_used_for_other_work_is_a_conflict(self, rig: Rig) -> None:
        """Where one replica has seen both. On another one Snowflake answers with the first
        statement, whatever the SQL is, and nobody can tell."""
        attempt = rig.attempt(self.runs_long())
        await rig.create(attempt, rig.first)
        other = replace(attempt, task=self.fails())
        meta = await rig.create(other, rig.first)
        assert (await rig.get(other, meta, rig.first)).phase is Phase.FAILED
        assert rig.started(attempt) == 1
        assert rig.live(attempt) == 1, "the first task's job was touched"


class WithLookUp(TestSnowflake):
    """With the look-up: one statement, whatever Snowflake does with a repeated requestId."""

    __test__ = False
    idempotency: ClassVar[Idempotency] = "lookup"
    secret = ""  # a JWT is another one each time, and a key is never sent
    settings: ClassVar[Mapping[str, str]] = {
        "FLYTEAGENTS_SNOWFLAKE_FIND_BY_TAG": "true",
        "FLYTEAGENTS_SECRET_SNOWFLAKE_PRIVATE_KEY": private_key(),
    }

    async def test_no_part_of_the_key_is_seen_anywhere(self, rig: Rig) -> None:
        attempt = rig.attempt(self.fails())
        meta = await rig.create(attempt, rig.first)
        answer = await rig.reach(attempt, meta, rig.first, Phase.FAILED)
        for text in (meta.decode(), str(answer.resource), rig.first.log, rig.second.log):
            assert private_key().splitlines()[3] not in text


class TestWithLookUpSame(WithLookUp):
    __test__ = True


class WithLookUpOnly(WithLookUp):
    """A first send is not looked up, so a CreateTask that comes to another replica is left to the
    requestId, which does not help here. These tests say what holds then."""

    @pytest.mark.parametrize("generation", [1, 2])
    async def test_a_task_succeeds_with_the_outputs_it_declares(
        self, rig: Rig, generation: Generation
    ) -> None:
        async with FakePropeller(rig.first.endpoint, generation=generation) as propeller:
            task = propeller.start(self.succeeds(), repeats=1)
            outcome = await task.end()
            assert (outcome.phase, outcome.failures) == (Phase.SUCCEEDED, [])
            assert outcome.outputs == self.outputs
            assert rig.started(task.attempt) == 1

    async def test_a_repeated_create_names_the_same_job(self, rig: Rig) -> None:
        attempt = rig.attempt(self.runs_long())
        meta = await rig.create(attempt, rig.first)
        again = await rig.create(attempt, rig.first)
        assert job(again) == job(meta)
        assert rig.started(attempt) == 1

    async def test_a_server_that_is_killed_while_it_creates_loses_no_job(self, rig: Rig) -> None:
        rig.vendor.fault("submit", SlowReply(5.0))
        attempt = rig.attempt(self.runs_long())
        lost = asyncio.ensure_future(
            rig.caller.create(attempt, endpoint=rig.second.endpoint, deadline=5.0)
        )
        await rig.until(lambda: rig.started(attempt) == 1, "the job is started")
        await rig.restart(rig.second)
        assert not (await lost).ok
        following = attempt.next()  # which Flyte makes of a CreateTask that fails
        job(await rig.create(following, rig.second))
        assert rig.started(attempt, following) == 1


class TestWithLookUpDone(WithLookUpOnly):
    __test__ = True
    repeats: ClassVar[Repeat] = Repeat.DONE


@pytest.mark.slow
class TestWithLookUpAnew(WithLookUpOnly):
    __test__ = True
    repeats: ClassVar[Repeat] = Repeat.ANEW
