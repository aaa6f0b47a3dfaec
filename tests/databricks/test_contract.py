"""The agent keeps the promises that every agent should keep."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import ClassVar

from tests.databricks.driving import EXISTING, custom
from tests.databricks.fake_databricks import FakeDatabricks
from tests.databricks.runs import FakeRun, Plan
from tests.databricks.workspace import error

from flyteagents import Idempotency, Key, Phase
from flyteagents.testing import FlyteTask, Response, task_template
from flyteagents.testing.contract import AgentContract, HttpControl, Rig, VendorControl

TOKEN = "dapi0123456789abcdef0123456789abcdef"


class DatabricksControl(HttpControl):
    """Controls the made-up workspace."""

    def __init__(self, databricks: FakeDatabricks) -> None:
        def runs(key: Key) -> Iterator[FakeRun]:
            return iter(databricks.of_token(key.hex))

        def slow_cancel(seconds: float) -> None:
            plan = Plan(running=math.inf, dies=seconds)
            databricks.will("forever", plan)
            for run in databricks.runs.values():
                if run.plan.running == math.inf:
                    run.plan = plan

        super().__init__(
            databricks,
            submit=("POST", "*/runs/submit"),
            look=("GET", "*/runs/get"),
            cancel=("POST", "*/runs/cancel"),
            started=lambda key: len(list(runs(key))),
            live=lambda key: sum(not run.ended for run in runs(key)),
            missing=error(400, "INVALID_PARAMETER_VALUE", "Run 5 does not exist."),
            refused=error(403, "PERMISSION_DENIED", "you may not start runs"),
            unknown_state=Response(200, {"state": {"life_cycle_state": "HIBERNATING"}}),
            slow_cancel=slow_cancel,
        )


class TestDatabricks(AgentContract):
    """Notebooks, whose outputs come with the answer."""

    task_type = "databricks"
    idempotency: ClassVar[Idempotency] = "vendor"
    plugins = ("databricks",)
    outputs: ClassVar[Mapping[str, object]] = {"rows": 3}
    secret = TOKEN

    @asynccontextmanager
    async def vendor(self) -> AsyncIterator[VendorControl]:
        async with FakeDatabricks() as databricks:
            databricks.will("slowly", Plan(queued=0.1, running=0.2, exit='{"rows": 3}'))
            trace = "Traceback (most recent call last):\n  File x\nValueError: boom"
            databricks.will(
                "fails",
                Plan(result="FAILED", code="RUN_EXECUTION_ERROR", error="boom", trace=trace),
            )
            databricks.will("forever", Plan(running=math.inf))
            yield DatabricksControl(databricks)

    def environment(self, vendor: VendorControl) -> Mapping[str, str]:
        return {
            "FLYTEAGENTS_DATABRICKS_URL": vendor.url,
            "FLYTEAGENTS_SECRET_FLYTE_DATABRICKS_ACCESS_TOKEN": TOKEN,
        }

    def task(self, what: str) -> FlyteTask:
        return task_template(
            "databricks",
            custom=custom(EXISTING, notebookPath="/n", notebookBaseParameters={"what": what}),
            inputs={"n": 1},
            outputs={"rows": int},
            image="image:1",
            args=("pyflyte-execute",),
        )

    def succeeds(self) -> FlyteTask:
        return self.task("slowly")

    def fails(self) -> FlyteTask:
        return self.task("fails")

    def runs_long(self) -> FlyteTask:
        return self.task("forever")

    async def test_a_retry_leaves_a_run_that_is_being_stopped(self, rig: Rig) -> None:
        attempt = rig.attempt(self.runs_long())
        meta = await rig.create(attempt, rig.first)
        await rig.reach(attempt, meta, rig.first, Phase.RUNNING)
        rig.vendor.slow_cancel(1.0)
        await rig.delete(attempt, meta, rig.first, deadline=0.5)
        await rig.create(attempt.next(), rig.second)
        assert rig.started(attempt.next()) == 1
        rig.vendor.slow_cancel(0)
