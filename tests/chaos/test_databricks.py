"""Replies that are lost, storms of 429 and 503, servers that are killed, and runs that die or are
deleted: the work of a task is done once, and code that failed is never told as a success.

The runs write what a task's process writes under its output prefix, so that a success can be false.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import math
import os
import random
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.attempts import SCALE, ended
from tests.chaos.conftest import MakeServer
from tests.chaos.servers import together
from tests.databricks.driving import EXISTING, flyte_task
from tests.databricks.fake_databricks import FakeDatabricks
from tests.databricks.runs import FakeRun, Plan
from tests.databricks.stored import error_pb, outputs_pb
from tests.databricks.workspace import Workspace

from flyteagents import Phase
from flyteagents.testing import (
    Attempt,
    Caller,
    Cut,
    Delay,
    DropReply,
    FakePropeller,
    FlyteTask,
    Response,
    SlowReply,
)

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "50")) // 5
BUSY = Response(429, {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow down"})
DOWN = Response(503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "soon"})
SUBMITS = (None, None, Delay(0.3), SlowReply(0.3), SlowReply(0.3), DropReply(), BUSY, DOWN)
LOOKS = (None, None, None, None, Cut(), BUSY, DOWN)
SUBMIT = ("POST", "*/runs/submit")
KINDS = ("works", "fails", "notebook", "forever")


class Code:
    """The code of a run, which leaves what its name says: `works-3` the output 3, `fails-3` an
    error; Databricks calls both a success."""

    def __init__(self, run: Mapping[str, Any], workspace: Workspace, seconds: float = 0.3) -> None:
        self.name = name_of(run)
        self.ended: float | None = None
        if not self.name.startswith("forever"):
            asyncio.get_running_loop().call_later(seconds, self._end, run["tasks"][0])

    def plan(self) -> Plan:
        return Plan(exit=f'{{"n": {self.name.rpartition("-")[2]}}}')

    def kill(self) -> None:
        if self.ended is None:
            self.ended = time.time()

    def _end(self, task: Mapping[str, Any]) -> None:
        if self.ended is not None:
            return
        if "spark_python_task" in task:
            prefix = Path(task["spark_python_task"]["parameters"][-1])
            prefix.mkdir(parents=True, exist_ok=True)
            if self.name.startswith("fails"):
                error_pb(prefix, "USER:ValueError", "my mistake", recoverable=False)
            else:
                outputs_pb(prefix, {"n": int(self.name.rpartition("-")[2])})
        self.ended = time.time()


def name_of(run: Mapping[str, Any]) -> str:
    """What a run was named by its task."""
    [task] = run["tasks"]
    notebook = task.get("notebook_task")
    if notebook is not None:
        return str(notebook["base_parameters"]["name"])
    parameters = task["spark_python_task"]["parameters"]
    return str(parameters[parameters.index("--name") + 1])


def task_named(name: str) -> FlyteTask:
    """One on our entrypoint, one with a file of its own, or a notebook, by the name's begin."""
    if name.startswith("notebook"):
        parameters = {"name": name}
        return flyte_task(
            EXISTING, outputs={"n": int}, notebookPath="/n", notebookBaseParameters=parameters
        )
    args = ("pyflyte-execute", "--name", name, "--output-prefix", "{{.outputPrefix}}")
    if name.startswith("fails"):
        return flyte_task({**EXISTING, "python_file": "/mine.py"}, args=args)
    return flyte_task(EXISTING, outputs={"n": int}, args=args)


@pytest.fixture
async def databricks() -> AsyncIterator[FakeDatabricks]:
    async with FakeDatabricks() as databricks:
        databricks.cluster = Code
        yield databricks


def environment(databricks: FakeDatabricks) -> dict[str, str]:
    return {
        "FLYTEAGENTS_DATABRICKS_URL": databricks.url,
        "FLYTEAGENTS_SECRET_FLYTE_DATABRICKS_ACCESS_TOKEN": "dapi-of-the-service",
    }


def runs_named(databricks: FakeDatabricks, name: str) -> list[FakeRun]:
    return [run for run in databricks.runs.values() if name_of(run.body) == name]


def done_once(databricks: FakeDatabricks, name: str) -> None:
    """One run did the work; any other one was stopped, or failed, before the next one began."""
    runs = runs_named(databricks, name)
    assert runs[-1].cancelled is None, name
    for run, following in itertools.pairwise(runs):
        assert run.cancelled or name.startswith("fails"), f"two runs did the work of {name}"
        assert run.ends <= following.created, name


async def test_no_run_is_lost_doubled_or_left_when_replies_are_lost_and_servers_are_killed(
    make_server: MakeServer, databricks: FakeDatabricks, tmp_path: Path
) -> None:
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(10**6)))
    print(f"CHAOS_SEED={seed}")
    chance = random.Random(seed)
    for (method, path), steps in ((SUBMIT, SUBMITS), (("GET", "*/runs/get*"), LOOKS)):
        databricks.script(method, path, *(chance.choice(steps) for _ in range(997)), repeat=True)
    databricks.script("POST", "*/runs/cancel", DOWN, BUSY, None, DropReply(), repeat=True)
    env = environment(databricks)
    replicas = [await make_server("databricks", **env) for _ in range(2)]
    restart = asyncio.ensure_future(asyncio.sleep(0))
    errors = 0
    settings: dict[str, Any] = {"scale": SCALE, "deadline": 5.0, "base": str(tmp_path)}

    async with (
        FakePropeller(together(*replicas), **settings) as one,
        FakePropeller(together(*replicas), generation=2, **settings) as two,
    ):
        for number in range(ROUNDS):
            await restart  # of the last one, so that one is always there
            propeller = chance.choice((one, two))
            running = {}
            before = databricks.count(*SUBMIT)
            for kind in KINDS:
                name = f"{kind}-{number}"
                first = propeller.attempt(task_named(name))
                repeats = chance.choice((0, 0, 1))
                running[name] = propeller.start(
                    first.task, execution=first.execution, attempts=21, repeats=repeats
                )
            await databricks.until(*SUBMIT, count=before + chance.randint(1, len(KINDS)))
            await asyncio.sleep(chance.uniform(0.0, 0.3))
            victim = chance.choice(replicas)
            await victim.kill()
            restart = asyncio.ensure_future(victim.start())
            await running[f"forever-{number}"].until(Phase.RUNNING)
            running[f"forever-{number}"].stop()
            for name, execution in running.items():
                outcome = await execution.end()
                told = (seed, name, outcome)
                assert not outcome.stuck, told
                errors += sum(not rpc.ok for rpc in outcome.calls("CreateTask"))
                if name.startswith("forever"):
                    assert (outcome.phase, outcome.orphaned) == (Phase.ABORTED, False), told
                    assert all(run.ended for run in runs_named(databricks, name)), told
                    continue
                done_once(databricks, name)
                if name.startswith("fails"):
                    assert outcome.phase is Phase.FAILED, told
                    assert "my mistake" in outcome.message, told
                else:
                    assert (outcome.phase, outcome.outputs) == (
                        Phase.SUCCEEDED,
                        {"n": number},
                    ), told
        await restart
    print(f"{ROUNDS} kills, {errors} CreateTasks failed")
    assert errors, "no kill hit a create"


async def lost(calls: Caller, databricks: FakeDatabricks, attempt: Attempt) -> FakeRun:
    """The run of a submit whose reply nobody gets: neither that nor those of its repeats."""
    script = databricks.script(*SUBMIT, DropReply(), repeat=True)
    creating = asyncio.ensure_future(calls.create(attempt))
    while not databricks.runs:  # noqa: ASYNC110 # no event tells of it
        await asyncio.sleep(0.01)
    creating.cancel()
    await asyncio.wait({creating})
    script.stop()
    return databricks.run


@pytest.mark.parametrize("fate", ["dies", "is deleted", "fails", "leaves nothing"])
async def test_a_run_that_nobody_knew_of_is_judged_by_what_became_of_it(
    make_server: MakeServer, databricks: FakeDatabricks, tmp_path: Path, fate: str
) -> None:
    """Its reply was lost, and the next attempt is on another replica."""
    databricks.cluster = functools.partial(Code, seconds=2.0)
    env = environment(databricks)
    first, second = await asyncio.gather(
        make_server("databricks", **env), make_server("databricks", **env)
    )
    name = "fails-1" if fate == "fails" else "works-1"

    async with first.caller(deadline=5.0) as one, second.caller(deadline=5.0) as two:
        attempt = Attempt(task_named(name), base=str(tmp_path))
        run = await lost(one, databricks, attempt)
        if fate == "dies":
            run.work = None
            run.plan = Plan(
                end="INTERNAL_ERROR", code="CLOUD_FAILURE", type="CLOUD_FAILURE", message="spot"
            )
        elif fate == "is deleted":
            databricks.delete(run)
        elif fate == "leaves nothing":
            run.work, run.plan = None, Plan(running=1.0)
        following = attempt.next()
        answer = await ended(two, following, (await two.create(following)).meta)

        if fate == "fails":
            assert answer.phase is Phase.FAILED
            assert "my mistake" in answer.resource.message
            assert list(databricks.runs.values()) == [run]
        elif fate == "leaves nothing":
            assert answer.phase is Phase.RETRYABLE_FAILED
            assert "left no outputs" in answer.resource.message
            assert list(databricks.runs.values()) == [run]
        else:
            assert answer.phase is Phase.SUCCEEDED
            assert len([other for other in databricks.runs.values() if other is not run]) == 1


async def test_an_attempt_whose_run_was_deleted_says_so_and_runs_nothing_again(
    make_server: MakeServer, databricks: FakeDatabricks, tmp_path: Path
) -> None:
    server = await make_server("databricks", **environment(databricks))
    async with server.caller() as calls:
        attempt = Attempt(task_named("works-1"), base=str(tmp_path))
        assert (await calls.create(attempt)).ok
        databricks.delete(databricks.run)
        again = await make_server("databricks", **environment(databricks))
        async with again.caller() as others:
            answer = await ended(others, attempt, (await others.create(attempt)).meta)
    assert answer.phase is Phase.FAILED
    assert "was deleted" in answer.resource.message
    assert not databricks.runs


async def test_a_cancel_in_a_storm_leaves_nothing_running(
    make_server: MakeServer, databricks: FakeDatabricks, tmp_path: Path
) -> None:
    databricks.will("forever", Plan(running=math.inf, dies=0.2))
    server = await make_server("databricks", **environment(databricks))
    async with server.caller() as calls:
        attempt = Attempt(task_named("forever-1"), base=str(tmp_path))
        meta = (await calls.create(attempt)).meta
        databricks.script("*", "*", BUSY, DOWN, DropReply(), Cut(), None, repeat=True)
        codes = [(await calls.delete(attempt, meta)).code]
        while codes[-1] != "OK":
            assert len(codes) < 11, codes  # after which Flyte aborts the workflow
            codes.append((await calls.delete(attempt, meta)).code)
    assert databricks.run.ended
