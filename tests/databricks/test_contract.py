"""The agent keeps the promises that every agent should keep, for each kind of task that it takes.

How an SDK writes each kind, and what is submitted of it, is tested in test_sdk_bodies.py.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from tests.databricks.driving import (
    ARGS,
    EXISTING,
    NEW,
    SERVERLESS,
    TASK_TYPE,
    TOKEN,
    environment,
    flyte_task,
)
from tests.databricks.fake_databricks import FakeDatabricks
from tests.databricks.runs import FakeRun, Plan
from tests.databricks.workspace import error

from flyteagents import Idempotency, Key, Phase
from flyteagents.testing import FlyteTask, Response
from flyteagents.testing.contract import AgentContract, HttpControl, Rig, VendorControl


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


class Databricks(AgentContract):
    """What all kinds of tasks have in common; their submits differ, and so who starts a run."""

    __test__ = False
    task_type = TASK_TYPE
    idempotency: ClassVar[Idempotency] = "vendor"
    plugins = ("databricks",)
    secret = TOKEN
    outputs: ClassVar[Mapping[str, object]] = {"rows": 3}
    ends: ClassVar[Plan]

    @asynccontextmanager
    async def vendor(self) -> AsyncIterator[VendorControl]:
        async with FakeDatabricks() as databricks:
            databricks.will("slowly", replace(self.ends, queued=0.1, running=0.2))
            trace = "Traceback (most recent call last):\n  File x\nValueError: boom"
            databricks.will(
                "fails",
                Plan(result="FAILED", code="RUN_EXECUTION_ERROR", error="boom", trace=trace),
            )
            databricks.will("forever", Plan(running=math.inf))
            yield DatabricksControl(databricks)

    def environment(self, vendor: VendorControl) -> Mapping[str, str]:
        return environment(vendor.url)

    def task(self, what: str) -> FlyteTask:
        """A task whose submit contains `what`, the name of a plan."""
        raise NotImplementedError

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
        rig.vendor.slow_cancel(3.0)
        deleting = await rig.stopping(attempt, meta, rig.first)
        await rig.create(attempt.next(), rig.second)
        assert rig.started(attempt.next()) == 1
        await deleting


class TestNotebooks(Databricks):
    """Their outputs come with the answer."""

    __test__ = True
    ends = Plan(exit='{"rows": 3}')

    def task(self, what: str) -> FlyteTask:
        return flyte_task(
            EXISTING,
            notebookPath="/n",
            notebookBaseParameters={"what": what},
            inputs={"n": 1},
            outputs={"rows": int},
        )


class PythonFiles(Databricks):
    """Their outputs are files, which the task's own code writes."""

    base = str(Path(tempfile.gettempdir()) / "flyteagents-tests")
    ends = Plan(writes={"rows": 3})
    conf: ClassVar[Mapping[str, object]]
    command: ClassVar[tuple[str, ...]] = ARGS

    def task(self, what: str) -> FlyteTask:
        args = (*self.command, "--resolver", "module.resolver", "--", "task-name", what)
        return flyte_task(
            self.conf,
            task_type=self.task_type,
            inputs={"n": 1},
            outputs={"rows": int},
            args=args,
        )


class TestPythonFiles(PythonFiles):
    """As flytekit's `DatabricksV2` writes them; our entrypoint is delivered first."""

    __test__ = True
    conf = NEW


@pytest.mark.slow
class TestSparkTasks(PythonFiles):
    """As flytekit's older `Databricks` writes them, which has Spark's own type."""

    __test__ = True
    task_type = "spark"
    conf = NEW

    def environment(self, vendor: VendorControl) -> Mapping[str, str]:
        return {**super().environment(vendor), "FLYTEAGENTS_DATABRICKS_SERVE_SPARK": "true"}


@pytest.mark.slow
class TestServerlessTasks(PythonFiles):
    """As flyte-sdk's `Databricks` writes them; the run brings an environment of its own."""

    __test__ = True
    conf = SERVERLESS
    command = ("a0", *ARGS[1:])


@pytest.mark.slow
class TestFilesOfTheirOwn(PythonFiles):
    """Nothing is delivered, and the run says itself whether its code has failed."""

    __test__ = True
    conf: ClassVar[Mapping[str, object]] = {**NEW, "python_file": "/Workspace/mine.py"}
