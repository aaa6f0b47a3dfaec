"""What is submitted equals what the SDKs' own connectors would send, but for what is mended.

Their bodies come from their own code, run on the same templates.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
from tests.databricks.driving import Driver
from tests.databricks.fake_databricks import FakeDatabricks
from tests.databricks.sdk_tasks import written
from tests.sdk.environments import Sdk

from flyteagents_databricks.delivery import entrypoint_text
from flyteagents_databricks.environment import PARAMETER

OF_A_TASK = (
    "existing_cluster_id",
    "new_cluster",
    "libraries",
    "notebook_task",
    "spark_python_task",
)
KEPT: Mapping[str, tuple[str, ...]] = {
    "flytekit": (
        "sums_on_new",
        "sums_on_existing",
        "sums_on_serverless",
        "preconfigured",
        "own_file",
        "notebook",
        "serverless_notebook",
        "older",
    ),
    "flyte-sdk": ("sums_on_new", "sums_on_existing"),
}
CASES = [(sdk, name) for sdk, names in KEPT.items() for name in names]


def lifted(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Their body in the shape that the API documents: the task in `tasks`."""
    body = copy.deepcopy(dict(theirs))
    if "tasks" not in body:
        task = {name: body.pop(name) for name in OF_A_TASK if name in body}
        body["tasks"] = [{"task_key": "flyte_task", **task}]
    return body


def whole(value: Any) -> Any:
    """Numbers as they were written, before a Struct made floats of them."""
    if isinstance(value, dict):
        return {name: whole(part) for name, part in value.items()}
    if isinstance(value, list):
        return [whole(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def mend_theirs(body: dict[str, Any], sdk: str) -> dict[str, Any]:
    """Take out of theirs what is mended."""
    [task] = body["tasks"]
    body.pop("max_retries", None)  # which the API drops
    file = task.get("spark_python_task", {})
    if body.get("git_source", {}).get("git_url", "").endswith("flyteorg/flytetools"):
        # Their entrypoint: flytekit's for serverless does not exist, flyte-sdk's does not work.
        del body["git_source"], file["source"], file["python_file"]
    for environment in body.get("environments", ()):
        environment["spec"].pop("environment_vars", None)  # which the API drops
    cluster = task.get("new_cluster", {})
    cluster.pop("spark_env_vars", None)
    return body


def mend_ours(body: dict[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Take out of ours what is new."""
    assert len(body.pop("idempotency_token")) == 40
    if "run_name" not in theirs:
        assert body.pop("run_name").startswith("flyte-")
    [task] = body["tasks"]
    assert task.pop("description").startswith("flyteagents 1-")
    if "environment_key" in task:
        assert task.pop("disable_auto_optimization")
    file = task.get("spark_python_task", {})
    if "flyteagents_entrypoint_" in file.get("python_file", ""):
        del file["python_file"]
        file["parameters"] = [one for one in file["parameters"] if not one.startswith(PARAMETER)]
    cluster = task.get("new_cluster", {})
    cluster.pop("spark_env_vars", None)
    cluster.pop("custom_tags", None)
    if "notebook_task" in task and not theirs_has_parameters(theirs):
        task["notebook_task"].pop("base_parameters", None)
    return body


def theirs_has_parameters(theirs: Mapping[str, Any]) -> bool:
    return "base_parameters" in str(theirs)


@pytest.mark.parametrize(("sdk", "name"), CASES)
async def test_the_body_is_theirs_but_for_what_is_mended(
    databricks: FakeDatabricks, driver: Driver, sdk: Sdk, name: str
) -> None:
    case = written(sdk)[name]
    before = case.task.template.SerializeToString()
    task = driver.read(case.task)
    await driver.create(task)
    assert case.task.template.SerializeToString() == before

    ours = mend_ours(copy.deepcopy(databricks.submits[-1]), case.theirs)
    theirs = mend_theirs(whole(lifted(case.theirs)), sdk)
    [our_task], [their_task] = ours["tasks"], theirs["tasks"]
    if name == "notebook":  # inputs are parameters too
        assert our_task["notebook_task"]["base_parameters"].pop("rows") == "5"
    if our_task.get("spark_python_task"):
        # Flyte has rendered ours by now.
        assert len(our_task["spark_python_task"].pop("parameters")) == len(
            their_task["spark_python_task"].pop("parameters")
        )
    assert ours == theirs


@pytest.mark.parametrize("name", ["sums_on_new", "older"])
async def test_the_environment_of_a_new_cluster_has_all_that_theirs_has(
    databricks: FakeDatabricks, driver: Driver, name: str
) -> None:
    case = written("flytekit")[name]
    await driver.create(driver.read(case.task))
    theirs = case.theirs["new_cluster"]["spark_env_vars"]
    [task] = databricks.submits[-1]["tasks"]
    assert theirs["FLYTE_FAIL_ON_ERROR"] == "true"
    assert theirs.items() <= task["new_cluster"]["spark_env_vars"].items()


async def test_the_entrypoint_lies_in_the_home_of_our_principal(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    await driver.create(driver.read(written("flyte-sdk")["sums_on_new"].task))
    [task] = databricks.submits[-1]["tasks"]
    path = task["spark_python_task"]["python_file"]
    assert path.startswith("/Workspace/Users/robot@example.com/.flyteagents/")
    assert databricks.workspace.read(path) == entrypoint_text()
