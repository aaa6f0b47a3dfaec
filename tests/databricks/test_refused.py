"""What is refused before it runs, and what is not: what an author wrote may be anything."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.databricks.driving import EXISTING, SERVERLESS, Driver
from tests.databricks.fake_databricks import FakeDatabricks
from tests.vendors.refusing import NoCredentialsError, refusing_reads

from flyteagents import Binary, Forbidden, InvalidTask, Phase, Unauthenticated, Unsupported

OWN_FILE = {**EXISTING, "python_file": "/Workspace/mine.py"}


@pytest.mark.parametrize(
    ("conf", "more", "words"),
    [
        ({}, {}, "nothing about compute"),
        ({"tasks": [], **EXISTING}, {}, "has tasks"),
        ({"spark_jar_task": {"main_class_name": "Main"}, **EXISTING}, {}, "has spark_jar_task"),
        ({"notebook_task": {"notebook_path": "/n"}, **EXISTING}, {}, "has notebook_task"),
        (EXISTING, {"databricksInstance": "not a host"}, "databricks_instance"),
        (EXISTING, {"databricksTokenSecret": "../x"}, "its databricks_token_secret"),
        ({"existing_cluster_id": 923}, {}, "its existing_cluster_id"),
        (EXISTING, {"env": {"A": "x" * 10_000}}, "parameters take"),
        ({"new_cluster": "small"}, {}, r"databricks_conf\.new_cluster has to be an object"),
        ({**EXISTING, "new_cluster": "small"}, {}, r"\.new_cluster has to be an object"),
        ({"new_cluster": {"spark_env_vars": ["A"]}}, {}, r"new_cluster\.spark_env_vars has to be"),
        ({"new_cluster": {"custom_tags": "a"}}, {}, r"new_cluster\.custom_tags has to be"),
        ({"environments": {"a": "b"}}, {}, r"databricks_conf\.environments has to be a list"),
        ({"environments": ["a"]}, {}, r"databricks_conf\.environments\.0 has to be an object"),
        ({"environments": [{"spec": "5"}]}, {}, r"environments\.0\.spec has to be an object"),
        (
            {"environments": [{"spec": {"environment_vars": ["A"]}}]},
            {},
            r"environments\.0\.spec\.environment_vars has to be an object",
        ),
        (
            {**SERVERLESS, "environment_variables": [{"spec": {"variables": 1}}]},
            {},
            r"environment_variables\.0\.spec\.variables has to be an object",
        ),
    ],
)
async def test_a_task_that_cannot_work_is_refused_before_anything_is_sent(
    databricks: FakeDatabricks,
    driver: Driver,
    conf: dict[str, Any],
    more: dict[str, Any],
    words: str,
) -> None:
    with pytest.raises(InvalidTask, match=words):
        await driver.create(driver.task(conf, **more))
    assert databricks.submits == []


@pytest.mark.parametrize("own", [{}, {"python_file": "/Workspace/mine.py"}])
async def test_variables_of_a_cluster_that_are_no_texts_go_on_as_they_are(
    databricks: FakeDatabricks, driver: Driver, own: dict[str, str]
) -> None:
    conf = {"new_cluster": {"spark_env_vars": {"OMP_NUM_THREADS": 4}}, **own}
    job = await driver.create(driver.task(conf))
    [sent] = databricks.submits[-1]["tasks"]
    assert sent["new_cluster"]["spark_env_vars"]["OMP_NUM_THREADS"] == 4
    assert (await driver.get(job)).phase is Phase.SUCCEEDED


@pytest.mark.parametrize(
    "conf",
    [
        {**SERVERLESS, "environments": None, "environment_variables": None},
        {"environments": [{"environment_key": "default", "spec": None}]},
        {"new_cluster": {"num_workers": 1, "spark_env_vars": None, "custom_tags": ""}},
    ],
)
async def test_what_is_empty_says_nothing(
    databricks: FakeDatabricks, driver: Driver, conf: dict[str, Any]
) -> None:
    await driver.create(driver.task(conf))
    assert len(databricks.submits) == 1


async def test_an_input_of_bytes_is_no_notebooks_parameter(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    task = driver.task(EXISTING, notebookPath="/n")
    for value in (Binary(b"x"), [b"x"]):
        with pytest.raises(InvalidTask, match="takes no"):
            await driver.create(replace(task, inputs={"x": value}))
    assert databricks.submits == []


@pytest.mark.parametrize(
    "reference",
    ["{{job.run_id}}", "{{ job.start_time.iso_date }}", "{{tasks.`a b`.values.x}}", "{{run_id}}"],
)
async def test_an_input_that_databricks_would_change_is_no_notebooks_parameter(
    databricks: FakeDatabricks, driver: Driver, reference: str
) -> None:
    task = driver.task(EXISTING, notebookPath="/n", notebookBaseParameters={"meant": reference})
    for value in (f"a {reference}", [reference], {"of": reference}):
        with pytest.raises(InvalidTask, match=f"'x' has '{re.escape(reference)}'"):
            await driver.create(replace(task, inputs={"x": value}))
    assert databricks.submits == []
    # No reference to Databricks, which takes it as it is.
    others = "{{ name }} {{jobs.id}} {job.id} {{job_idx}} {{ job title }} {{ input | upper }}"
    await driver.create(replace(task, inputs={"x": others}))


async def test_a_store_that_hangs_does_not_hold_a_task_back(
    databricks: FakeDatabricks, driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flyteagents_databricks.left.LOOK", 0.05)
    # A pipe that nobody writes to: who opens it waits for ever.
    os.mkfifo(tmp_path / "error.pb")
    task = driver.task(OWN_FILE)
    try:
        await asyncio.wait_for(driver.create(task, prefix=str(tmp_path), seconds=30.0), 5)
    finally:  # let the thread go, or this process would not end
        os.close(os.open(tmp_path / "error.pb", os.O_RDWR | os.O_NONBLOCK))
    assert len(databricks.submits) == 1


async def test_a_task_whose_failure_would_not_be_known_is_refused_before_it_runs(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    task = driver.task(OWN_FILE)
    with pytest.raises(Unsupported, match=r"a success although its code has failed.*nowhere://x"):
        await driver.create(task, prefix="nowhere://x/0")
    with (
        refusing_reads(),
        pytest.raises(Forbidden, match=r"a success although .* the right to read and to list"),
    ):
        await driver.create(task, prefix="memory://x/0")
    with (
        refusing_reads(NoCredentialsError()),
        pytest.raises(Unauthenticated, match=r"a success although .* are missing or wrong"),
    ):
        await driver.create(task, prefix="memory://x/0")
    assert databricks.submits == []
    with refusing_reads():
        await driver.create(driver.task(EXISTING), prefix="memory://x/0")


async def test_a_spark_task_without_databricks_conf_says_that_it_came_the_wrong_way(
    driver: Driver,
) -> None:
    task = driver.task(EXISTING, databricksConf=None)
    with pytest.raises(InvalidTask, match="Kubernetes"):
        await driver.create(task)
