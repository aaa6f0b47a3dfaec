"""What becomes of a key in a task's config that is not known, or that has no effect in the task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.databricks.driving import EXISTING, NEW, SERVERLESS, Driver
from tests.databricks.fake_databricks import FakeDatabricks
from tests.databricks.sdk_tasks import written
from tests.sdk.environments import Sdk
from tests.sdk.templates import SDKS

NOTEBOOK = {"notebookPath": "/n"}
ATTEMPTS = "attempts are for Flyte to repeat; give the task `retries`"
OF_A_JOB = "it is for jobs that stay, and this is a one-time run"


def told(
    conf: Mapping[str, object], *, namespaces: bool = False, env: Any = None, **custom: Any
) -> list[str]:
    driver = Driver(None, namespace_secrets=namespaces)
    task = driver.task(conf, env=env, inputs={"n": 1}, **custom)
    return list(driver.agent.warnings(task))


def test_what_stands_beside_the_conf_and_nobody_reads_does_nothing() -> None:
    assert told(EXISTING, notebookpath="/n") == [
        "'notebookpath' in the task's config is not known and does nothing; did you mean "
        "'notebookPath'?"
    ]
    assert told(EXISTING, databricksOidcTokenFile="/var/run/token") == [
        "'databricksOidcTokenFile' in the task's config does nothing: a task may not name files "
        "of this service"
    ]


@pytest.mark.parametrize("name", ["databricksToken", "driverPod", "executorPod", "hadoopConf"])
def test_what_only_a_user_sets_and_nobody_reads_is_told(name: str) -> None:
    given: Any = {name: {"a": "b"}}
    [sentence] = told(EXISTING, **given)
    assert sentence.startswith(f"{name!r} in the task's config is not known and does nothing")


def test_what_databricks_gets_is_told_when_it_looks_like_a_slip() -> None:
    assert told({**EXISTING, "timeout_second": 5, "newest_key": 1}) == [
        "'timeout_second' in databricksConf is not known to this agent and was passed on as it "
        "is; did you mean 'timeout_seconds'?"
    ]
    cluster = {**NEW["new_cluster"], "num_worker": 2, "key_of_tomorrow": 1}
    assert told({"new_cluster": cluster}) == [
        "'num_worker' in new_cluster is not known to this agent and was passed on as it is; did "
        "you mean 'num_workers'?"
    ]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("max_retries", ATTEMPTS),
        ("min_retry_interval_millis", ATTEMPTS),
        ("retry_on_timeout", ATTEMPTS),
        ("disable_auto_optimization", ATTEMPTS),
        ("schedule", OF_A_JOB),
        ("max_concurrent_runs", OF_A_JOB),
        ("tags", OF_A_JOB),
        ("depends_on", "the agent makes the run's one task"),
        ("spark_python_task", "the agent makes the run's one task; name a file by `python_file`"),
    ],
)
async def test_what_has_no_place_in_a_run_is_told_and_not_sent(
    databricks: FakeDatabricks, driver: Driver, name: str, why: str
) -> None:
    conf = {**EXISTING, name: 1}
    assert told(conf) == [f"{name!r} in databricksConf does nothing: {why}"]
    await driver.create(driver.task(conf))
    assert name not in databricks.submits[-1]


@pytest.mark.parametrize(
    ("conf", "custom", "where", "name"),
    [
        ({**EXISTING, "environments": [{}]}, {}, "databricksConf", "environments"),
        ({**NEW, "environment_key": "mine"}, {}, "databricksConf", "environment_key"),
        ({**EXISTING, "python_file": "/mine.py"}, NOTEBOOK, "databricksConf", "python_file"),
        (
            {**EXISTING, "python_file": "/mine.py", "git_source": {"git_url": "u"}},
            {},
            "databricksConf",
            "git_source",
        ),
        (EXISTING, {"sparkConf": {"a": "b"}}, "the task's config", "sparkConf"),
        (SERVERLESS, {"sparkConf": {"a": "b"}}, "the task's config", "sparkConf"),
        (
            {"new_cluster": {**NEW["new_cluster"], "spark_conf": {"c": "d"}}},
            {"sparkConf": {"a": "b"}},
            "the task's config",
            "sparkConf",
        ),
        (
            EXISTING,
            {"notebookBaseParameters": {"a": "b"}},
            "the task's config",
            "notebookBaseParameters",
        ),
        (
            EXISTING,
            {**NOTEBOOK, "notebookBaseParameters": {"n": "2", "a": "b"}},
            "notebookBaseParameters",
            "n",
        ),
        (
            EXISTING,
            {"databricksServiceCredentialProvider": "p"},
            "the task's config",
            "databricksServiceCredentialProvider",
        ),
        (EXISTING, {"databricksTokenSecret": "mine"}, "the task's config", "databricksTokenSecret"),
        (EXISTING, {"databricksOauthSecret": "mine"}, "the task's config", "databricksOauthSecret"),
        (EXISTING, {"databricksOidcAudience": "me"}, "the task's config", "databricksOidcAudience"),
        (
            {"new_cluster": {"spark_env_vars": {"FLYTE_FAIL_ON_ERROR": "false", "MINE": "1"}}},
            {},
            "spark_env_vars",
            "FLYTE_FAIL_ON_ERROR",
        ),
        (
            {"new_cluster": {"spark_env_vars": {"COLOUR": "blue"}}},
            {"env": {"COLOUR": "red"}},
            "spark_env_vars",
            "COLOUR",
        ),
    ],
)
def test_what_something_else_of_the_task_goes_before_is_told(
    conf: Mapping[str, object], custom: Mapping[str, Any], where: str, name: str
) -> None:
    [sentence] = told(conf, **custom)
    assert sentence.startswith(f"{name!r} in {where} does nothing: ")


@pytest.mark.parametrize(
    ("conf", "custom"),
    [
        (NEW, {"sparkConf": {"a": "b"}}),
        (SERVERLESS, {"databricksServiceCredentialProvider": "p"}),
        (EXISTING, {**NOTEBOOK, "notebookBaseParameters": {"a": "b"}}),
        (EXISTING, {"namespaces": True, "databricksTokenSecret": "mine"}),
        ({**EXISTING, "python_file": "mine.py", "git_source": {"git_url": "u"}}, {}),
        ({"new_cluster": {"spark_env_vars": {"COLOUR": "red"}}}, {"env": {"COLOUR": "red"}}),
        (EXISTING, {"env": {"COLOUR": "red"}}),
        ({"existing_cluster_id": "c", "tasks": [], "max_retries": 1}, {}),  # it is refused
    ],
)
def test_what_has_its_effect_is_not(conf: Mapping[str, object], custom: Mapping[str, Any]) -> None:
    assert told(conf, **custom) == []


@pytest.mark.parametrize(
    ("conf", "custom", "lost"),
    [
        (EXISTING, NOTEBOOK, True),
        ({**EXISTING, "python_file": "/mine.py"}, {}, True),
        ({**SERVERLESS, "python_file": "/mine.py"}, {}, True),
        ({**NEW, "python_file": "/mine.py"}, {}, False),
        (
            {
                "python_file": "/mine.py",
                "environments": [
                    {"environment_key": "default", "spec": {"environment_version": "5"}}
                ],
            },
            {},
            False,
        ),
    ],
)
def test_environment_variables_that_do_not_arrive_are_told(
    conf: Mapping[str, object], custom: Mapping[str, Any], lost: bool
) -> None:
    sentences = told(conf, env={"COLOUR": "red", "FLYTE_X": "y"}, **custom)
    assert [one.partition(" do ")[0] for one in sentences] == (
        ["the environment variables COLOUR"] if lost else []
    )


@pytest.mark.parametrize("sdk", SDKS)
def test_a_task_of_an_sdks_is_warned_of_what_its_author_wrote_alone(sdk: Sdk) -> None:
    driver = Driver(None)
    for name, case in written(sdk).items():
        task = driver.read(case.task)
        conf = task.config.conf or {}
        asked = [f"'max_retries' in databricksConf does nothing: {ATTEMPTS}"]
        assert driver.agent.warnings(task) == (asked if "max_retries" in conf else []), name
