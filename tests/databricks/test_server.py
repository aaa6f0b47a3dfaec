"""Databricks tasks through a real server, under Flyte 1 and Flyte 2."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.databricks.driving import (
    EXISTING,
    FLYTEKIT,
    HOST,
    TOKEN,
    environment,
    flyte_task,
)
from tests.databricks.fake_databricks import FakeDatabricks
from tests.databricks.runs import FakeRun, Plan
from tests.databricks.stored import error_pb, outputs_pb
from tests.databricks.workspace import error
from tests.vendors import served
from tests.vendors.served import Served, assert_refused

from flyteagents import Phase
from flyteagents.testing import Cut, Delay, FakePropeller, FlyteTask, Generation, SlowReply

DOWN = error(503, "TEMPORARILY_UNAVAILABLE", "down")


def flyte(
    databricks: FakeDatabricks,
    base: Path | str = "s3://flyte",
    *,
    generation: Generation = 1,
    deadline: float = 10.0,
    **env: str,
) -> contextlib.AbstractAsyncContextManager[FakePropeller]:
    return served.flyte(
        "databricks",
        {**environment(databricks.url), **env},
        secret=TOKEN,
        generation=generation,
        deadline=deadline,
        base=str(base),
    )


def prefix_of(run: FakeRun) -> Path:
    """Where the run writes to, as its parameters say."""
    [task] = run.body["tasks"]
    folder = Path(task["spark_python_task"]["parameters"][-1])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("generation", [1, 2])
async def test_a_success_with_an_error_pb_is_none_also_where_no_output_is_declared(
    databricks: FakeDatabricks, tmp_path: Path, generation: Generation
) -> None:
    databricks.will("tasks", Plan(running=3.0))
    task = flyte_task({**EXISTING, "python_file": "/mine.py"})
    async with flyte(databricks, tmp_path, generation=generation) as propeller:
        attempt = propeller.attempt(task)
        execution = propeller.start(attempt.task, execution=attempt.execution, attempts=3)
        await execution.until(Phase.RUNNING)
        await asyncio.to_thread(error_pb, prefix_of(databricks.run), "USER:X", "my mistake", False)
        outcome = await execution.end()
    assert (outcome.phase, outcome.attempts, outcome.failures) == (Phase.FAILED, 1, [])
    assert "my mistake" in outcome.message


async def test_a_message_that_was_cut_in_the_middle_of_a_character_ends_its_task(
    databricks: FakeDatabricks,
) -> None:
    refused = Plan(result="FAILED", code="INVALID_CLUSTER_REQUEST", message="cut: \ud83d")
    databricks.will("tasks", refused)
    async with flyte(databricks) as propeller:
        outcome = await propeller.run(flyte_task(EXISTING), attempts=3)
    assert (outcome.phase, outcome.attempts) == (Phase.FAILED, 1)
    assert "INVALID_CLUSTER_REQUEST" in outcome.message


async def test_a_task_whose_failure_could_never_be_seen_is_refused_before_it_runs(
    databricks: FakeDatabricks,
) -> None:
    task = flyte_task({**EXISTING, "python_file": "/mine.py"})
    async with flyte(databricks, "nowhere://flyte") as propeller:
        outcome = await propeller.run(task, attempts=3)
    assert (outcome.phase, outcome.attempts, outcome.failures) == (Phase.FAILED, 1, [])
    assert "nowhere://flyte" in outcome.message
    assert "at none of the stores that Flyte writes to" in outcome.message
    assert not databricks.submits


async def test_a_run_whose_reply_was_lost_is_taken_over_with_its_outputs(
    databricks: FakeDatabricks, tmp_path: Path
) -> None:
    databricks.will("tasks", Plan(running=4.0))
    databricks.script("POST", "*/runs/submit", SlowReply(3.0))
    task = flyte_task(EXISTING, outputs={"n": int})
    async with flyte(databricks, tmp_path, deadline=2.0) as propeller:
        attempt = propeller.attempt(task)
        execution = propeller.start(attempt.task, execution=attempt.execution, attempts=9)
        await databricks.until("POST", "*/runs/submit")
        await execution.until(Phase.RUNNING)
        folder = prefix_of(databricks.run)
        assert folder.name == "0"
        await asyncio.to_thread(outputs_pb, folder, {"n": 3})
        outcome = await execution.end()
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert outcome.attempts > 1
    assert outcome.outputs == {"n": 3}
    assert len(databricks.runs) == 1


async def test_a_run_made_for_an_attempt_that_never_got_one_writes_where_it_is_looked_for(
    databricks: FakeDatabricks, tmp_path: Path
) -> None:
    """To look for the first attempt's run makes it; the arguments are the second attempt's."""
    databricks.will("tasks", Plan(running=3.0))
    task = flyte_task(EXISTING, outputs={"n": int})
    async with flyte(databricks, tmp_path) as propeller:
        lost = databricks.script("POST", "*/runs/submit", Cut(), repeat=True)
        attempt = propeller.attempt(task)
        await propeller.create(attempt, deadline=1.0)
        lost.stop()
        following = attempt.next()
        created = await propeller.create(following)
        folder = prefix_of(databricks.run)
        assert folder.name == "0"
        await asyncio.to_thread(outputs_pb, folder, {"n": 3})
        answer = await propeller.get(following, created.meta)
        while answer.phase in (Phase.INITIALIZING, Phase.RUNNING):
            answer = await propeller.get(following, created.meta)
    assert answer.phase is Phase.SUCCEEDED
    assert answer.outputs == {"n": 3}


async def test_a_run_whose_outputs_cannot_be_read_is_stopped_before_the_next_one(
    databricks: FakeDatabricks,
) -> None:
    databricks.will("tasks", Plan(running=math.inf, dies=0.3))
    databricks.script("POST", "*/runs/submit", SlowReply(2.0))
    task = flyte_task(EXISTING, outputs={"n": int})
    async with flyte(databricks, "nowhere://flyte") as propeller:
        attempt = propeller.attempt(task)
        lost = asyncio.ensure_future(propeller.create(attempt))
        await databricks.until("POST", "*/runs/submit")
        lost.cancel()
        following = await propeller.create(attempt.next())
        answer = await propeller.get(attempt.next(), following.meta)
        assert answer.phase is Phase.RUNNING, answer.resource
        first, second = databricks.runs.values()
        assert first.ended
        assert first.ends <= second.created
        assert not second.ended


class TestServed(Served[FakeDatabricks]):
    plugin = "databricks"
    away = DOWN
    away_words = "[DATABRICKS_TEMPORARILY_UNAVAILABLE] down"
    cancels = "*/runs/cancel"
    unknown = json.dumps({"databricks_instance": HOST, "run_id": "5"}).encode()

    @pytest.fixture
    def vendor(self, databricks: FakeDatabricks) -> FakeDatabricks:
        return databricks

    def environment(self, vendor: FakeDatabricks) -> Mapping[str, str]:
        return environment(vendor.url)

    def runs(self, vendor: FakeDatabricks, seconds: float) -> FlyteTask:
        vendor.will("tasks", Plan(running=seconds))
        return flyte_task(EXISTING)

    def never_starts(self) -> FlyteTask:
        return flyte_task({})

    def started(self, vendor: FakeDatabricks) -> int:
        return len(vendor.runs)


@pytest.mark.parametrize(
    ("status", "code", "words", "phase"),
    [
        (400, "INVALID_PARAMETER_VALUE", "no such node type", Phase.FAILED),
        (403, "PERMISSION_DENIED", "you may not attach", Phase.FAILED),
        (404, "RESOURCE_DOES_NOT_EXIST", "no such cluster", Phase.FAILED),
        (403, "403", "Invalid access token", Phase.RETRYABLE_FAILED),
    ],
)
async def test_a_refused_submit_reaches_the_user_and_is_no_error_of_the_call(
    databricks: FakeDatabricks, status: int, code: str, words: str, phase: Phase
) -> None:
    databricks.will("tasks", Plan(rejected=(status, code, words)))
    async with flyte(databricks) as propeller:
        await assert_refused(propeller, flyte_task(EXISTING), phase, words)


async def test_a_run_of_flytekits_connector_is_carried_on_and_its_token_goes_nowhere(
    databricks: FakeDatabricks, tmp_path: Path
) -> None:
    databricks.add(77, Plan(running=math.inf))
    meta = json.dumps(FLYTEKIT).encode()
    async with flyte(databricks, tmp_path) as propeller:
        attempt = propeller.attempt(flyte_task(EXISTING))
        answer = await propeller.get(attempt, meta)
        assert (answer.code, answer.phase) == ("OK", Phase.RUNNING)
        assert (await propeller.delete(attempt, meta)).ok
        odd = await propeller.get(attempt, meta.replace(b"my-workspace", b"evil.com/"))
        assert odd.code == "INVALID_ARGUMENT"
        evil = meta.replace(HOST.encode(), b"evil.example")
        assert (await propeller.get(attempt, evil)).ok  # the one address is asked, not that host
    assert databricks.run.ended


async def test_spark_is_served_where_it_is_said(databricks: FakeDatabricks) -> None:
    async with flyte(databricks) as propeller:
        assert set(propeller.agents) == {"databricks"}
    async with flyte(databricks, FLYTEAGENTS_DATABRICKS_SERVE_SPARK="true") as propeller:
        assert set(propeller.agents) == {"databricks", "spark"}
        outcome = await propeller.run(flyte_task(EXISTING, task_type="spark"))
    assert outcome.phase is Phase.SUCCEEDED, outcome


async def test_polls_of_a_slow_workspace_do_not_hold_each_other_up(
    databricks: FakeDatabricks,
) -> None:
    databricks.will("tasks", Plan(running=math.inf))
    async with flyte(databricks) as propeller:
        attempt = propeller.attempt(flyte_task(EXISTING))
        made = await propeller.create(attempt)
        databricks.script("GET", "*/runs/get", Delay(1.0), repeat=True)
        metas = [made.meta]
        for number in range(30):
            run = databricks.add(1000 + number, Plan(running=math.inf))
            theirs = {"databricks_instance": HOST, "run_id": str(run.id)}
            metas.append(json.dumps(theirs).encode())
        began = time.monotonic()
        answers = await asyncio.gather(*(propeller.get(attempt, meta) for meta in metas))
        assert all(answer.ok for answer in answers)
        assert databricks.max_in_flight > 20
        assert time.monotonic() - began < 15
