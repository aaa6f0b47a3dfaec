"""A plugin that is made of the vendor kit keeps the promises of every agent, in a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest
from flyteidl.admin import agent_pb2 as flyte1
from flyteidl.service import agent_pb2_grpc
from tests.kit.quarry import Quarry

from flyteagents import Idempotency, Key, Phase, StructuredDataset
from flyteagents.testing import (
    FakePropeller,
    FlyteTask,
    RealServer,
    Response,
    task_template,
)
from flyteagents.testing.contract import AgentContract, HttpControl, VendorControl

PLUGIN = Path(__file__).parents[1] / "agents" / "quarry"
TASK_TYPE = "quarry_statement"
SECRET = "canary-77aa01"
FAILED_CALL = {
    "id": "q7",
    "state": "FAILED",
    "code": "PROCEDURE_FAILED",
    "error": "the procedure failed",
    "tags": {"flyte_fp": "0-of-other-rules"},
}
RESULTS = {"results": StructuredDataset}


def task(statement: str, **custom: Any) -> FlyteTask:
    return task_template(TASK_TYPE, custom=custom, sql=statement, outputs=RESULTS)


def environment(quarry: Quarry, **more: str) -> Mapping[str, str]:
    return {
        "FLYTEAGENTS_QUARRY_URL": quarry.url,
        "FLYTEAGENTS_SECRET_QUARRY_CLIENT_SECRET": SECRET,
        **more,
    }


@asynccontextmanager
async def flyte(quarry: Quarry, **more: str) -> AsyncIterator[FakePropeller]:
    """A server with the plugin, and a Flyte that calls it."""
    async with (
        RealServer(["quarry"], environment(quarry, **more), [PLUGIN]) as server,
        FakePropeller(server.endpoint) as propeller,
    ):
        yield propeller


@pytest.fixture
async def quarry() -> AsyncIterator[Quarry]:
    async with Quarry(SECRET) as quarry:
        yield quarry


class TestQuarry(AgentContract):
    task_type = TASK_TYPE
    idempotency: ClassVar[Idempotency] = "vendor"
    plugins = ("quarry",)
    python_path: ClassVar[Sequence[Path]] = (PLUGIN,)
    secret = SECRET

    @asynccontextmanager
    async def vendor(self) -> AsyncIterator[VendorControl]:
        async with Quarry(SECRET) as quarry:

            def started(key: Key) -> int:
                return int(key.hex in quarry.jobs)

            def live(key: Key) -> int:
                return int(key.hex in quarry.jobs and quarry.jobs[key.hex].live)

            def slow_cancel(seconds: float) -> None:
                quarry.dies = seconds

            yield HttpControl(
                quarry,
                submit=("POST", "/statements"),
                look=("GET", "/statements/*"),
                cancel=("POST", "/statements/*/cancel"),
                started=started,
                live=live,
                unknown_state=Response(200, {"id": "q0", "state": "HIBERNATING"}),
                slow_cancel=slow_cancel,
            )

    def environment(self, vendor: VendorControl) -> Mapping[str, str]:
        assert isinstance(vendor, HttpControl)
        assert isinstance(vendor.vendor, Quarry)
        return environment(vendor.vendor)

    def succeeds(self) -> FlyteTask:
        return task_template(TASK_TYPE, custom={}, sql="SELECT 'slowly'")

    def fails(self) -> FlyteTask:
        return task("SELECT * FROM nowhere")

    def runs_long(self) -> FlyteTask:
        return task("SELECT 'forever'")


async def test_a_task_runs_to_its_table_with_one_token(quarry: Quarry) -> None:
    async with flyte(quarry) as propeller:
        made = task_template(
            TASK_TYPE,
            custom={"tags": {"team": "Data"}},
            sql="SELECT 'slowly', @of",
            inputs={"of": {"b": 1, "a": 2}},
            outputs=RESULTS,
        )
        outcome = await propeller.run(made)
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert outcome.outputs == {"results": StructuredDataset(f"quarry://main.{quarry.job.id}")}
    assert quarry.job.body["parameters"] == {"of": '{"a":2,"b":1}'}
    assert quarry.asked == [("flyte", SECRET)]
    tags = quarry.job.body["tags"]
    assert tags["team"] == "Data"
    assert (tags["flyte_project"], tags["flyte_attempt"]) == ("tests", "0")
    assert "flyte_fp" in tags


async def test_what_of_a_config_has_no_effect_is_told(quarry: Quarry) -> None:
    task = task_template(
        TASK_TYPE, sql="SELECT 1", custom={"tag": {}, "tags": {"flyte_fp": "mine"}}
    )
    async with flyte(quarry) as propeller:
        outcome = await propeller.run(task)
    assert outcome.info["warnings"] == [
        "'tag' in the task's config is not known and does nothing; did you mean 'tags'?",
        "'flyte_fp' in tags does nothing: the agent needs its name",
    ]


async def test_a_project_has_its_own_credentials(quarry: Quarry) -> None:
    quarry.secrets.add("of-the-tests-77aa02")
    mapped = {
        "FLYTEAGENTS_QUARRY_CREDENTIALS": '{"tests/*": "tests_secret"}',
        "FLYTEAGENTS_SECRET_TESTS_SECRET": "of-the-tests-77aa02",
    }
    async with flyte(quarry, **mapped) as propeller:
        outcome = await propeller.run(task("SELECT 1"))
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert {secret for _, secret in quarry.asked} == {"of-the-tests-77aa02"}


async def test_a_token_service_that_is_away_for_a_moment_costs_no_attempt(quarry: Quarry) -> None:
    quarry.script("POST", "/oauth/token", Response(503), Response(429))
    async with flyte(quarry) as propeller:
        outcome = await propeller.run(task("SELECT 1"))
    assert (outcome.phase, outcome.attempts, outcome.failures) == (Phase.SUCCEEDED, 1, [])


async def test_a_client_that_is_refused_is_named_and_its_secret_is_not(quarry: Quarry) -> None:
    quarry.secrets.clear()
    async with flyte(quarry) as propeller:
        outcome = await propeller.run(task("SELECT 1"))
    assert outcome.phase is Phase.FAILED
    assert "refuses the client 'flyte' (client_credentials): invalid_client" in outcome.message
    assert SECRET not in outcome.message
    assert quarry.jobs == {}


async def test_a_token_that_is_refused_is_replaced(quarry: Quarry) -> None:
    async with flyte(quarry) as propeller:
        execution = propeller.start(task("SELECT 'forever'"))
        await execution.until(Phase.RUNNING)
        quarry.tokens[0] = "revoked"
        quarry.job.body = {**quarry.job.body, "statement": "SELECT 1"}
        outcome = await execution.end()
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert outcome.failures == []
    assert len(quarry.tokens) >= 2


async def test_what_the_tasks_own_code_says_of_its_failure_counts(
    quarry: Quarry, tmp_path: Path
) -> None:
    async with (
        RealServer(["quarry"], environment(quarry), [PLUGIN]) as server,
        FakePropeller(server.endpoint, base=str(tmp_path)) as propeller,
    ):
        outcome = await propeller.run(task("CALL procedure()"), attempts=2)
    assert outcome.phase is Phase.FAILED
    assert outcome.attempts == 2  # it says that another one may help
    assert "[QUARRY_USER:Flaky] the sheet is locked" in outcome.message


async def test_where_its_file_cannot_be_read_the_vendors_words_are_told(quarry: Quarry) -> None:
    async with (
        RealServer(["quarry"], environment(quarry), [PLUGIN]) as server,
        FakePropeller(server.endpoint, base="nowhere://flyte") as propeller,
    ):
        quarry.script("POST", "/statements", Response(200, FAILED_CALL))
        quarry.script("GET", "/statements/*", Response(200, FAILED_CALL), repeat=True)
        outcome = await propeller.run(task("SELECT 1"))
    assert outcome.phase is Phase.FAILED
    assert "[QUARRY_PROCEDURE_FAILED] the procedure failed" in outcome.message


async def test_a_log_is_read_in_pages(quarry: Quarry) -> None:
    async with (
        RealServer(["quarry"], environment(quarry), [PLUGIN]) as server,
        FakePropeller(server.endpoint) as propeller,
    ):
        created = await propeller.create(propeller.attempt(task("SELECT 1")))
        pages = [page async for page in pages_of_log(server.endpoint, created.meta, lines=2)]
    assert pages == [["queued", "running"], ["succeeded"]]


async def pages_of_log(endpoint: str, meta: bytes, lines: int) -> AsyncIterator[list[str]]:
    category = flyte1.TaskCategory(name=TASK_TYPE)
    async with grpc.aio.insecure_channel(endpoint) as channel:
        stub = agent_pb2_grpc.AsyncAgentServiceStub(channel)
        token = ""
        while True:
            request = flyte1.GetTaskLogsRequest(
                task_category=category, resource_meta=meta, lines=lines, token=token
            )
            token, read = "", []
            async for answer in stub.GetTaskLogs(request):
                token = answer.header.token or token
                read += [line.message for line in answer.body.structured_lines]
            yield read
            if not token:
                return
