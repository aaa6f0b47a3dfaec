"""Agents of each idempotency, with our handle and with the vendor's, pass the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tests.contract.job_service import AGENTS, JobServiceContract

from flyteagents import Idempotency
from flyteagents.testing import FlyteTask, Response, task_template
from flyteagents.testing.contract import SyncAgentContract


class TestKeyedByTheVendor(JobServiceContract):
    task_type = "job_keyed"
    idempotency: ClassVar[Idempotency] = "vendor"


class TestNamedByUs(JobServiceContract):
    task_type = "job_named"
    idempotency: ClassVar[Idempotency] = "vendor"
    submit = ("PUT", "/jobs/*")


class TestLookedUpAndNamedByTheVendor(JobServiceContract):
    task_type = "job_tagged"
    idempotency: ClassVar[Idempotency] = "lookup"


class TestLookedUpAndNamedByUs(JobServiceContract):
    task_type = "job_labelled"
    idempotency: ClassVar[Idempotency] = "lookup"
    look = ("GET", "/jobs")
    missing = Response(200, {"jobs": []})
    unknown: ClassVar[object] = {"jobs": [JobServiceContract.unknown]}


class TestHopeful(JobServiceContract):
    task_type = "job_hopeful"
    idempotency: ClassVar[Idempotency] = "none"


class TestSynchronous(SyncAgentContract):
    task_type = "job_echo"
    plugins = ("jobs",)
    python_path = (AGENTS,)
    outputs: ClassVar[Mapping[str, object]] = {"result": 7.0}

    def succeeds(self) -> FlyteTask:
        return task_template(
            self.task_type, custom={"script": "return 7"}, outputs={"result": float}
        )

    def fails(self) -> FlyteTask:
        return task_template(self.task_type, custom={"script": "dance"})
