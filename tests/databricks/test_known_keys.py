"""What becomes of a key in a task's config that is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.databricks.driving import EXISTING, NEW, Driver
from tests.databricks.sdk_tasks import written
from tests.sdk.environments import Sdk
from tests.sdk.templates import SDKS


def told(conf: Mapping[str, object], **custom: Any) -> list[str]:
    driver = Driver(None)
    return list(driver.agent.warnings(driver.task(conf, **custom)))


def test_what_stands_beside_the_conf_and_nobody_reads_does_nothing() -> None:
    assert told(EXISTING, notebookpath="/n") == [
        "'notebookpath' in the task's config is not known and does nothing; did you mean "
        "'notebookPath'?"
    ]
    assert told(EXISTING, databricksOidcTokenFile="/var/run/token") == [
        "'databricksOidcTokenFile' does nothing: a task may not name files of this service"
    ]


@pytest.mark.parametrize("name", ["databricksToken", "driverPod", "executorPod", "hadoopConf"])
def test_what_only_a_user_sets_and_nobody_reads_is_told(name: str) -> None:
    [sentence] = told(EXISTING, **{name: {"a": "b"}})
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


@pytest.mark.parametrize("sdk", SDKS)
def test_no_task_of_an_sdks_is_warned_of(sdk: Sdk) -> None:
    driver = Driver(None)
    for name, task in written(sdk).items():
        assert driver.agent.warnings(driver.read(task.task)) == [], name
