"""Tasks written with the real flytekit and flyte-sdk really run, from their inputs to their
outputs; and code that raises is a failure with its own message, on every kind of compute."""

from __future__ import annotations

import asyncio
import io
import subprocess
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.databricks.cluster import IMAGE, RealCluster, spark
from tests.databricks.fake_databricks import FakeDatabricks
from tests.databricks.image.endings import WAYS
from tests.databricks.sdk_tasks import written
from tests.sdk.environments import Sdk

from flyteagents import Phase
from flyteagents.testing import Attempt, FakePropeller, FlyteTask, Outcome, RealServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[RealCluster]:
    with spark() as found:
        cluster = RealCluster(found)
        yield cluster
        cluster.close()


@asynccontextmanager
async def flyte(databricks: FakeDatabricks, sdk: Sdk, base: Path) -> AsyncIterator[FakePropeller]:
    env = {
        "FLYTEAGENTS_DATABRICKS_URL": databricks.url,
        "FLYTEAGENTS_SECRET_FLYTE_DATABRICKS_ACCESS_TOKEN": "dapi-of-the-service",
    }
    async with (
        RealServer(["databricks"], env) as server,
        FakePropeller(
            server.endpoint,
            generation=2 if sdk == "flyte-sdk" else 1,
            secrets={"databricks-key": "dapi-of-the-task"},
            base=str(base),
            scale=0.02,
        ) as propeller,
    ):
        yield propeller


def place_inputs(attempt: Attempt) -> None:
    """What Flyte has in its store before it calls anyone."""
    folder = Path(attempt.output_prefix)
    folder.mkdir(parents=True)  # stores have no folders, and flyte-sdk makes none
    (folder.parent / "inputs.pb").write_bytes(attempt.task.inputs.SerializeToString())


def with_rows(task: FlyteTask, rows: int) -> FlyteTask:
    inputs = type(task.inputs).FromString(task.inputs.SerializeToString())
    inputs.literals["rows"].scalar.primitive.integer = rows
    return FlyteTask(task.template, inputs)


async def run(
    databricks: FakeDatabricks, sdk: Sdk, named: str | FlyteTask, base: Path, attempts: int = 1
) -> Outcome:
    """One of the SDKs' tasks, as Flyte runs it."""
    task = written(sdk)[named].task if isinstance(named, str) else named
    async with flyte(databricks, sdk, base) as propeller:
        attempt = propeller.attempt(task)
        place_inputs(attempt)
        execution = propeller.start(attempt.task, execution=attempt.execution, attempts=attempts)
        return await execution.end(within=180)


@pytest.mark.parametrize(
    ("sdk", "name"),
    [
        ("flytekit", "sums_on_new"),
        ("flytekit", "sums_on_existing"),
        ("flytekit", "sums_on_serverless"),
        ("flyte-sdk", "sums_on_new"),
        ("flyte-sdk", "sums_on_existing"),
        ("flyte-sdk", "sums_on_serverless"),
    ],
)
async def test_a_task_runs_from_its_inputs_to_its_outputs(
    databricks: FakeDatabricks, cluster: RealCluster, tmp_path: Path, sdk: Sdk, name: str
) -> None:
    databricks.cluster = cluster
    outcome = await run(databricks, sdk, name, tmp_path)
    log = cluster.processes[-1].log
    assert outcome.phase is Phase.SUCCEEDED, f"{outcome}\n{log[-3000:]}"
    assert outcome.failures == []
    execution = Path(outcome.prefix).parts[-4 if sdk == "flytekit" else -3]
    assert outcome.outputs == {"o0": 10, "o1": f"red {execution}"}
    assert len(databricks.runs) == 1


@pytest.mark.parametrize("outputs", ["raises", "raises_without_outputs"])
@pytest.mark.parametrize(
    ("sdk", "place"),
    [
        ("flytekit", "new"),
        ("flytekit", "existing"),
        ("flytekit", "serverless"),
        ("flyte-sdk", "new"),
        ("flyte-sdk", "existing"),
        ("flyte-sdk", "serverless"),
    ],
)
async def test_code_that_raises_is_a_failure_with_its_own_message(
    databricks: FakeDatabricks,
    cluster: RealCluster,
    tmp_path: Path,
    sdk: Sdk,
    place: str,
    outputs: str,
) -> None:
    databricks.cluster = cluster
    before = len(cluster.processes)
    outcome = await run(databricks, sdk, f"{outputs}_on_{place}", tmp_path)
    told = f"{outcome}\n{cluster.processes[-1].log[-3000:]}"
    assert outcome.phase is Phase.FAILED, told
    assert "no rows like 5" in outcome.message, told
    assert outcome.failures == []
    assert len(cluster.processes) == before + 1  # serverless compute would try it again
    # Databricks too shows a failure, with the words of the code.
    assert databricks.run.outcome.result == "FAILED"
    assert "no rows like 5" in databricks.run.outcome.error


async def test_code_that_asks_for_another_attempt_gets_one(
    databricks: FakeDatabricks, cluster: RealCluster, tmp_path: Path
) -> None:
    databricks.cluster = cluster
    outcome = await run(databricks, "flytekit", "recoverable_on_existing", tmp_path, attempts=2)
    assert (outcome.phase, outcome.attempts) == (Phase.FAILED, 2)
    assert "come back with 5" in outcome.message
    assert len(databricks.runs) == 2


WORDS = {
    "exits with 1": "exit with 1",
    "exits with a text": "no more rows",
    "is interrupted": "KeyboardInterrupt",
    "is killed": "DRIVER_ERROR",
}


@pytest.mark.parametrize("way", WORDS)
@pytest.mark.parametrize(
    ("sdk", "place"),
    [("flytekit", "existing"), ("flytekit", "serverless"), ("flyte-sdk", "existing")],
)
async def test_a_process_that_just_ends_is_a_failure(
    databricks: FakeDatabricks,
    cluster: RealCluster,
    tmp_path: Path,
    sdk: Sdk,
    place: str,
    way: str,
) -> None:
    """No output is declared, so nothing else would show it."""
    databricks.cluster = cluster
    task = with_rows(written(sdk)[f"ends_on_{place}"].task, WAYS.index(way))
    outcome = await run(databricks, sdk, task, tmp_path)
    assert outcome.phase is Phase.FAILED, f"{outcome}\n{cluster.processes[-1].log[-3000:]}"
    assert WORDS[way] in outcome.message
    assert databricks.run.outcome.result == "FAILED"


@pytest.mark.parametrize("sdk", ["flytekit", "flyte-sdk"])
async def test_code_that_cannot_be_imported_is_a_failure(
    databricks: FakeDatabricks, cluster: RealCluster, tmp_path: Path, sdk: Sdk
) -> None:
    databricks.cluster = cluster
    task = written(sdk)["ends_on_existing"].task
    template = type(task.template).FromString(task.template.SerializeToString())
    arguments = [one.replace("_tasks", "_tusks") for one in template.container.args]
    template.container.args[:] = arguments
    outcome = await run(databricks, sdk, FlyteTask(template, task.inputs), tmp_path)
    assert outcome.phase is Phase.FAILED, f"{outcome}\n{cluster.processes[-1].log[-3000:]}"
    assert "No module named" in outcome.message
    assert "_tusks" in outcome.message
    assert "Files found" not in outcome.message
    assert databricks.run.outcome.result == "FAILED"


async def test_a_process_that_ends_well_without_the_declared_outputs_is_a_failure(
    databricks: FakeDatabricks, cluster: RealCluster, tmp_path: Path
) -> None:
    databricks.cluster = cluster
    task = with_rows(written("flytekit")["ends_with_outputs_on_existing"].task, 0)
    outcome = await run(databricks, "flytekit", task, tmp_path)
    assert outcome.phase is Phase.FAILED
    assert "wrote no outputs.pb" in outcome.message


async def test_an_abort_kills_the_process(
    databricks: FakeDatabricks, cluster: RealCluster, tmp_path: Path
) -> None:
    databricks.cluster = cluster
    task = with_rows(written("flytekit")["waits_on_existing"].task, 600)
    async with flyte(databricks, "flytekit", tmp_path) as propeller:
        attempt = propeller.attempt(task)
        place_inputs(attempt)
        execution = propeller.start(attempt.task, execution=attempt.execution)
        await execution.until(Phase.RUNNING)
        work = cluster.processes[-1]
        assert work.process is not None
        for _ in range(1000):
            if "waiting" in work.log:
                break
            await asyncio.sleep(0.03)
        assert work.process.poll() is None, work.log
        outcome = await execution.abort()
        assert work.process.poll() is not None
    assert (outcome.phase, outcome.orphaned, outcome.failures) == (Phase.ABORTED, False, [])


async def test_a_notebook_runs_with_the_inputs_to_the_declared_outputs(
    databricks: FakeDatabricks, cluster: RealCluster, tmp_path: Path
) -> None:
    databricks.cluster = cluster
    source = b"""# Databricks notebook source
import json
rows = int(dbutils.widgets.get("rows"))
# COMMAND ----------
told = {"n": spark.range(rows).count(), "name": dbutils.widgets.get("mode")}
dbutils.notebook.exit(json.dumps(told))
"""
    databricks.workspace.put("/Users/me/notebook", source)
    outcome = await run(databricks, "flytekit", "notebook", tmp_path)
    assert outcome.phase is Phase.SUCCEEDED, f"{outcome}\n{cluster.processes[-1].log[-2000:]}"
    assert outcome.outputs == {"n": 5, "name": "fast"}
    databricks.workspace.put("/Users/me/notebook", b"raise KeyError('no such table')")
    outcome = await run(databricks, "flytekit", "notebook", tmp_path)
    assert outcome.phase is Phase.FAILED
    assert "no such table" in outcome.message


# As the SDKs' own entrypoint on an existing cluster: it ends well whatever the code has done.
OWN_FILE = b"""
import sys, threading
from flytekit.bin.entrypoint import execute_task_cmd
work = dict(args=sys.argv[2:], standalone_mode=False)
thread = threading.Thread(target=execute_task_cmd.main, kwargs=work)  # there is a loop in this one
thread.start()
thread.join()
"""


def own_file(task: FlyteTask, file: str, **conf: object) -> FlyteTask:
    """The task with a Python file of its own."""
    template = type(task.template).FromString(task.template.SerializeToString())
    template.custom["databricksConf"].update({"python_file": file, **conf})
    return FlyteTask(template, task.inputs)


def committed(folder: Path, name: str, content: bytes) -> dict[str, str]:
    """A file in a git repository; what `git_source` says of it."""
    file = folder / name
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    git = ["git", "-C", str(folder), "-c", "user.name=me", "-c", "user.email=me@example.com"]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "mine"]):
        subprocess.run([*git, *words], check=True)
    return {"git_url": f"file://{folder}/.git", "git_provider": "gitHub", "git_branch": "main"}


@pytest.mark.parametrize("place", ["git", "/Workspace/Users/me/own.py", "dbfs:/own.py"])
async def test_a_file_of_the_tasks_own_runs_and_what_its_code_left_counts(
    databricks: FakeDatabricks, cluster: RealCluster, tmp_path: Path, place: str
) -> None:
    databricks.cluster = cluster
    conf: dict[str, object] = {}
    file = place
    if place == "git":
        file = "jobs/own.py"
        conf["git_source"] = await asyncio.to_thread(committed, tmp_path / "r", file, OWN_FILE)
    databricks.workspace.put("/Users/me/own.py", OWN_FILE)
    cluster.files["dbfs:/own.py"] = OWN_FILE

    tasks = written("flytekit")
    good = own_file(tasks["sums_on_existing"].task, file, **conf)
    outcome = await run(databricks, "flytekit", good, tmp_path / "good")
    assert outcome.phase is Phase.SUCCEEDED, f"{outcome}\n{cluster.processes[-1].log[-3000:]}"
    assert outcome.outputs["o0"] == 10

    bad = own_file(tasks["raises_without_outputs_on_existing"].task, file, **conf)
    outcome = await run(databricks, "flytekit", bad, tmp_path / "bad")
    assert [one.outcome.result for one in databricks.runs.values()] == ["SUCCESS", "SUCCESS"]
    assert outcome.phase is Phase.FAILED
    assert "no rows like 5" in outcome.message


async def test_code_that_was_registered_fast_is_fetched_first(
    databricks: FakeDatabricks, cluster: RealCluster, tmp_path: Path
) -> None:
    databricks.cluster = cluster
    archive = tmp_path / "fast.tar.gz"
    source = (
        (IMAGE / "flytekit_tasks.py").read_bytes().replace(b"os.environ.get('COLOUR')", b"'new'")
    )
    with tarfile.open(archive, "w:gz") as tar:
        about = tarfile.TarInfo("flytekit_tasks.py")
        about.size = len(source)
        tar.addfile(about, io.BytesIO(source))
    task = written("flytekit")["sums_on_serverless"].task
    template = type(task.template).FromString(task.template.SerializeToString())
    inner = list(template.container.args)
    del template.container.args[:]
    fast = ["pyflyte-fast-execute", "--additional-distribution", str(archive), "--dest-dir", "."]
    template.container.args.extend([*fast, "--", *inner])
    made = FlyteTask(template, task.inputs)
    outcome = await run(databricks, "flytekit", made, tmp_path)
    assert outcome.phase is Phase.SUCCEEDED, f"{outcome}\n{cluster.processes[-1].log[-2000:]}"
    assert str(outcome.outputs["o1"]).startswith("new ")
