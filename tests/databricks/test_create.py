"""What is submitted, and what becomes of the answer."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.databricks.driving import ARGS, EXISTING, HOST, NEW, SERVERLESS, Driver
from tests.databricks.fake_databricks import FIRST, FakeDatabricks
from tests.databricks.runs import Plan

from flyteagents import Forbidden, InvalidTask, JobConflict, Unavailable
from flyteagents.testing import DropReply, Response
from flyteagents.testing.contract.rig import FAILED

HOME = "/Workspace/Users/robot@example.com/.flyteagents"
FLYTE = {
    "FLYTE_FAIL_ON_ERROR": "true",
    "FLYTE_ATTEMPT_NUMBER": "0",
    "FLYTE_INTERNAL_EXECUTION_ID": "run",
    "FLYTE_INTERNAL_EXECUTION_PROJECT": "tests",
    "FLYTE_INTERNAL_EXECUTION_DOMAIN": "development",
}


async def submitted(
    databricks: FakeDatabricks, driver: Driver, conf: dict[str, Any], **options: Any
) -> dict[str, Any]:
    """The body that a task is submitted with."""
    await driver.create(driver.task(conf, **options))
    return databricks.submits[-1]


def task_of(body: dict[str, Any]) -> dict[str, Any]:
    [task] = body["tasks"]
    assert isinstance(task, dict)
    return task


async def test_a_new_cluster_gets_image_configuration_environment_and_tags(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    cluster = {
        **NEW["new_cluster"],
        "spark_env_vars": {"MINE": "1", "FLYTE_FAIL_ON_ERROR": "false"},
        "custom_tags": {"team": "data"},
    }
    body = await submitted(
        databricks,
        driver,
        {"new_cluster": cluster, "libraries": [{"pypi": {"package": "x"}}]},
        env={"COLOUR": "red"},
        sparkConf={"spark.speculation": "true"},
    )
    task = task_of(body)
    made = task["new_cluster"]
    assert made["docker_image"] == {"url": "registry/image:1"}
    assert made["spark_conf"] == {"spark.speculation": "true"}
    assert made["num_workers"] == 2
    variables = made["spark_env_vars"]
    assert FLYTE.items() <= variables.items()
    assert (variables["MINE"], variables["COLOUR"]) == ("1", "red")
    tags = made["custom_tags"]
    assert (tags["team"], tags["flyte-exec"], tags["flyte-project"]) == ("data", "run", "tests")
    assert task["libraries"] == [{"pypi": {"package": "x"}}]
    assert task["spark_python_task"]["parameters"][0] == "pyflyte-execute"
    assert (
        task["spark_python_task"]["parameters"][-1] == "s3://flyte/tests/development/run/n0/data/0"
    )
    assert (body["run_name"], task["task_key"]) == ("flyte-run-n0-0", "flyte_task")


async def test_what_the_task_says_itself_stays(databricks: FakeDatabricks, driver: Driver) -> None:
    cluster = {
        "docker_image": {"url": "mine"},
        "spark_conf": {"a": "b"},
        "policy_id": "p",
        "num_workers": 0.0,
    }
    body = await submitted(
        databricks,
        driver,
        {
            "new_cluster": cluster,
            "run_name": "mine",
            "timeout_seconds": 60.0,
            "queue": {"enabled": True},
            "email_notifications": {"on_failure": ["a@b.c"]},
            "max_retries": 1,
        },
        timeout=timedelta(hours=1),
        sparkConf={"c": "d"},
    )
    made = task_of(body)["new_cluster"]
    assert {name: made[name] for name in cluster} == {**cluster, "num_workers": 0}
    assert (body["run_name"], body["timeout_seconds"]) == ("mine", 60)
    assert body["queue"] == {"enabled": True}
    assert body["email_notifications"] == {"on_failure": ["a@b.c"]}
    assert "60.0" not in json.dumps(body)  # whole numbers are whole again


async def test_the_tasks_timeout_is_the_runs_and_a_little_later(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    hour = timedelta(hours=1)
    body = await submitted(databricks, driver, EXISTING, timeout=hour)
    assert body["timeout_seconds"] == 3720
    own: dict[str, object] = {**EXISTING, "timeout_seconds": 9}
    limits: list[tuple[dict[str, Any], Any]] = [(EXISTING, hour), (own, hour), (EXISTING, 0.0)]
    tasks = [
        driver.task(conf, timeout=timeout, execution=f"limit-{number}")
        for number, (conf, timeout) in enumerate(limits)
    ]
    assert [(await driver.create(task)).limited for task in tasks] == [True, None, None]


@pytest.mark.parametrize(
    ("asked", "settled", "checkpoints"),
    [(2, 2, "1/c"), (3, 3, "2/c"), (3, 2, "1/c"), (3, 1, '""'), (2, 1, '""')],
)
async def test_a_run_writes_for_its_own_attempt_and_reads_what_the_one_before_it_left(
    databricks: FakeDatabricks, driver: Driver, asked: int, settled: int, checkpoints: str
) -> None:
    # Flyte 2 has an attempt's checkpoints below its output prefix.
    base = driver.task(EXISTING).output_prefix.rpartition("/")[0]
    args = ("a0", "--outputs-path", f"{base}/{asked}", "--prev-checkpoint", f"{base}/{asked - 1}/c")
    task = driver.task(EXISTING, args=args, number=asked)
    await driver.create(replace(task, output_prefix=f"{base}/{settled}"))
    parameters = task_of(databricks.submits[-1])["spark_python_task"]["parameters"]
    before = f"{base}/{checkpoints}" if "/" in checkpoints else checkpoints
    assert parameters[-3:] == [f"{base}/{settled}", "--prev-checkpoint", before]


async def test_flytekits_first_attempt_is_settled_under_its_own_prefix(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    task = driver.task(EXISTING, number=2)
    first = f"{task.output_prefix.rpartition('/')[0]}/0"
    await driver.create(replace(task, output_prefix=first))
    assert task_of(databricks.submits[-1])["spark_python_task"]["parameters"][-1] == first


@pytest.mark.parametrize(
    "conf", [EXISTING, SERVERLESS, {"environments": [{"environment_key": "default", "spec": {}}]}]
)
async def test_where_compute_takes_no_variables_our_entrypoint_does(
    databricks: FakeDatabricks, driver: Driver, conf: dict[str, Any]
) -> None:
    body = await submitted(databricks, driver, conf, env={"COLOUR": "red"})
    first, second, *_ = task_of(body)["spark_python_task"]["parameters"]
    name, _, text = first.partition("=")
    assert (name, second) == ("--flyteagents-env", "pyflyte-execute")
    variables = json.loads(text)
    assert {**FLYTE, "COLOUR": "red"}.items() <= variables.items()


async def test_newer_serverless_environments_take_variables_themselves(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    environment = {
        "environment_key": "mine",
        "spec": {"environment_version": "5", "environment_vars": {"A": "b"}},
    }
    conf = {"environment_key": "mine", "environments": [environment]}
    body = await submitted(databricks, driver, conf, env={"COLOUR": "red"})
    [entry] = body["environment_variables"]
    assert {"A": "b", "COLOUR": "red", **FLYTE}.items() <= entry["spec"]["variables"].items()
    task = task_of(body)
    assert task["environment_variables_key"] == entry["environment_variables_key"]
    assert task["environment_key"] == "mine"
    assert body["environments"][0]["spec"] == {"environment_version": "5"}
    assert "environment_key" not in body
    assert task["spark_python_task"]["parameters"][0] == "pyflyte-execute"


async def test_serverless_compute_is_told_of_the_credential_for_flytes_store(
    databricks: FakeDatabricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYTEAGENTS_SECRET_FLYTE_DATABRICKS_ACCESS_TOKEN", "dapi-of-the-service")
    async with Driver(databricks.url, service_credential_provider="all").opened() as driver:
        body = await submitted(databricks, driver, SERVERLESS)
        assert task_of(body)["spark_python_task"]["parameters"][-1] == (
            "--flyte-credential-provider=all"
        )
        own = {"databricksServiceCredentialProvider": "own"}
        body = await submitted(databricks, driver, SERVERLESS, execution="own", **own)
        assert task_of(body)["spark_python_task"]["parameters"][-1].endswith("=own")
        body = await submitted(databricks, driver, EXISTING, execution="classic")
        assert "provider" not in str(task_of(body)["spark_python_task"]["parameters"])


async def test_a_python_file_of_ones_own_is_run_from_where_it_is(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    for file in ("/Workspace/x.py", "dbfs:/x.py", "s3://b/x.py", "/Volumes/a/b/c/x.py"):
        body = await submitted(
            databricks, driver, {**EXISTING, "python_file": file}, execution=file[-9:]
        )
        parameters = ["pyflyte-execute", *ARGS[1:-1]]
        made = task_of(body)["spark_python_task"]
        assert made["python_file"] == file
        assert made["parameters"][:-1] == parameters
        assert "source" not in made
        assert "git_source" not in body
        assert "python_file" not in body
    git = {"git_url": "https://example.com/r", "git_provider": "gitLab", "git_branch": "main"}
    body = await submitted(
        databricks,
        driver,
        {**EXISTING, "python_file": "a/b.py", "git_source": git},
        execution="git",
    )
    assert body["git_source"] == git
    assert task_of(body)["spark_python_task"]["source"] == "GIT"


async def test_a_notebook_gets_the_inputs_as_parameters(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    body = await submitted(
        databricks,
        driver,
        EXISTING,
        inputs={"n": 3, "name": "it's", "several": [1, 2], "on": True},
        notebookPath="/Users/me/n",
        notebookBaseParameters={"mine": "x", "n": "0"},
    )
    task = task_of(body)
    assert task["notebook_task"] == {
        "notebook_path": "/Users/me/n",
        "base_parameters": {
            "mine": "x",
            "n": "3",
            "name": "it's",
            "several": "[1, 2]",
            "on": "true",
        },
    }
    assert task["task_key"] == "flyte_task"
    assert databricks.workspace.imports == []


async def test_the_answer_names_the_run_and_its_page(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    job = await driver.create(driver.task(EXISTING))
    assert (job.run_id, job.databricks_instance) == (str(FIRST), HOST)
    assert [link.name for link in driver.agent.links(job)] == [
        "Databricks Console",
        "Spark UI",
        "Driver Logs",
    ]
    assert driver.agent.links(job)[0].uri == f"{databricks.url}/?o=7011#job/{FIRST * 7}/run/{FIRST}"


async def test_a_run_whose_page_cannot_be_asked_for_has_the_documented_one(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    databricks.script("GET", "*/runs/get", Response(400, {"error_code": "X", "message": "no"}))
    job = await driver.create(driver.task(EXISTING))
    assert driver.agent.links(job)[0].uri == f"https://{HOST}/jobs/runs/{FIRST}"


async def test_a_repeated_submit_finds_the_run(databricks: FakeDatabricks, driver: Driver) -> None:
    databricks.script("POST", "*/runs/submit", DropReply())
    task = driver.task(EXISTING)
    first = await driver.create(task)
    assert await driver.create(task) == first
    assert len(databricks.runs) == 1
    assert {body["idempotency_token"] for body in databricks.submits} == {task.key.hex}


async def test_a_users_own_token_never_gives_an_old_run_back(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    conf = {**EXISTING, "idempotency_token": "always the same"}
    first = await driver.create(driver.task(conf))
    assert await driver.create(driver.task(conf)) == first
    other = await driver.create(driver.task(conf, execution="tomorrow"))
    assert other.run_id != first.run_id
    assert all(len(body["idempotency_token"]) == 64 for body in databricks.submits)


async def test_the_same_key_for_other_work_is_a_conflict(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    await driver.create(driver.task(EXISTING))
    with pytest.raises(JobConflict, match="other work"):
        await driver.create(driver.task(EXISTING, inputs={"n": 1}))


async def test_the_same_key_for_other_code_is_a_conflict(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    def args(function: str, bundle: str = "s3://code/1") -> tuple[str, ...]:
        fast = ("pyflyte-fast-execute", "--additional-distribution", bundle, "--")
        return (*fast, *ARGS, "--resolver", "r", "--", "task-name", function)

    await driver.create(driver.task(EXISTING, args=args("mine")))
    for other in (args("another"), args("mine", "s3://code/2")):
        with pytest.raises(JobConflict, match="other work"):
            await driver.create(driver.task(EXISTING, args=other))
    # The same in every release: what one of them calls other work, it takes over from none.
    assert driver.task(EXISTING, args=args("mine")).fingerprint.text == "1-820b86bb8560d029"
    # The next attempt's arguments name other places.
    attempts = [driver.task(EXISTING, args=args("mine"), number=number) for number in (0, 1)]
    assert attempts[0].fingerprint == attempts[1].fingerprint


async def test_a_run_that_was_deleted_is_told_apart(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    await driver.create(driver.task(EXISTING))
    databricks.delete(databricks.run)
    with pytest.raises(JobConflict, match="was deleted"):
        await driver.create(driver.task(EXISTING))


async def test_a_400_is_final_and_what_the_task_names_and_is_not_there_is_its_mistake(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    refused = {
        400: "INVALID_PARAMETER_VALUE",
        404: "RESOURCE_DOES_NOT_EXIST",
        403: "PERMISSION_DENIED",
    }
    for status, code in refused.items():
        databricks.will("existing", Plan(rejected=(status, code, "in Databricks' words")))
        kind = Forbidden if status == 403 else InvalidTask
        with pytest.raises(kind, match="in Databricks' words"):
            await driver.create(driver.task(EXISTING))
    assert len(databricks.submits) == 3


async def test_a_passing_failure_is_tried_again_with_the_same_token(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    busy = Response(400, {"error_code": "COULD_NOT_ACQUIRE_LOCK", "message": "busy"})
    databricks.script("POST", "*/runs/submit", busy, Response(503), Response(429))
    await driver.create(driver.task(EXISTING))
    sent = [one.json() for one in databricks.requests if one.path.endswith("/runs/submit")]
    assert len(sent) == 4
    assert len({body["idempotency_token"] for body in sent}) == 1
    databricks.script("POST", "*/runs/submit", Response(503), repeat=True)
    with pytest.raises(Unavailable):
        await driver.create(driver.task(EXISTING, execution="down"), seconds=1.0)


async def test_a_workspace_with_2_1_alone_is_asked_in_2_1(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    databricks.versions = ("2.1",)
    job = await driver.create(driver.task(EXISTING))
    await driver.create(driver.task(NEW, execution="second"))
    status = await driver.get(job)
    assert status.phase is not None
    assert databricks.count("*", "/api/2.2/*") == 1
    assert status.phase not in FAILED
