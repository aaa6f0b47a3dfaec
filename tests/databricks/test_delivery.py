"""The entrypoint is in the workspace, as it was written, where nobody else may change it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.databricks.driving import EXISTING, Driver
from tests.databricks.fake_databricks import FakeDatabricks
from tests.databricks.runs import Plan
from tests.databricks.workspace import error

from flyteagents import Forbidden, Phase, Unavailable
from flyteagents.testing import Response
from flyteagents_databricks import delivery
from flyteagents_databricks.delivery import entrypoint_text
from flyteagents_databricks.settings import DatabricksSettings

HOME = "/Users/robot@example.com/.flyteagents"


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTEAGENTS_SECRET_FLYTE_DATABRICKS_ACCESS_TOKEN", "dapi-own")


def python_file(databricks: FakeDatabricks) -> str:
    file: str = databricks.submits[-1]["tasks"][0]["spark_python_task"]["python_file"]
    return file


def gone(path: str) -> Plan:
    """A run whose file is not where it should be."""
    return Plan(
        end="INTERNAL_ERROR",
        code="RESOURCE_NOT_FOUND",
        type="CLIENT_ERROR",
        message=f"Cannot read the python file {path}",
    )


async def test_it_is_delivered_once_for_all_tasks_and_looked_at_again_after_a_restart(
    databricks: FakeDatabricks,
) -> None:
    for restart in range(3):
        async with Driver(databricks.url).opened() as driver:
            tasks = [driver.task(EXISTING, execution=f"{restart}-{n}") for n in range(5)]
            await asyncio.gather(*map(driver.create, tasks))
        assert len(databricks.workspace.imports) == 1
        assert databricks.count("GET", "*/workspace/export") == 2 + restart
    assert databricks.workspace.read(python_file(databricks)) == entrypoint_text()


async def test_principals_are_remembered_in_a_limited_number(
    databricks: FakeDatabricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "KEPT", 2)
    async with Driver(databricks.url).opened() as driver:
        for number in range(4):
            sent = {"flyte_databricks_access_token": f"dapi-{number}"}
            task = driver.task(EXISTING, execution=f"e{number}")
            await driver.create(task, sent_secrets=sent)
        assert len(driver.agent._delivery._places) == 2


async def test_what_somebody_else_wrote_there_is_not_run(databricks: FakeDatabricks) -> None:
    async with Driver(databricks.url).opened() as driver:
        await driver.create(driver.task(EXISTING))
    path = python_file(databricks)
    databricks.workspace.put(path, b"import os; steal(os.environ)")
    async with Driver(databricks.url).opened() as driver:
        await driver.create(driver.task(EXISTING, execution="later"))
    assert databricks.workspace.read(path) == entrypoint_text()


async def test_what_does_not_stay_as_it_was_written_is_not_run(databricks: FakeDatabricks) -> None:
    databricks.script("GET", "*/workspace/export", Response(200, b"something else"), repeat=True)
    async with Driver(databricks.url).opened() as driver:
        with pytest.raises(Unavailable, match="not what was written"):
            await driver.create(driver.task(EXISTING))
    assert databricks.submits == []


async def test_a_folder_that_all_users_may_write_to_is_refused(databricks: FakeDatabricks) -> None:
    databricks.workspace.folders["/open"] = {"users": "CAN_EDIT"}
    async with Driver(databricks.url, entrypoint_folder="/Workspace/open/flyte").opened() as driver:
        with pytest.raises(Forbidden, match="'users' may write"):
            await driver.create(driver.task(EXISTING))
    assert databricks.submits == []
    with pytest.raises(ValueError, match="other people's credentials"):
        DatabricksSettings(entrypoint_folder="/Workspace/Shared/.flyte")


async def test_readers_are_welcome(databricks: FakeDatabricks) -> None:
    databricks.workspace.folders["/team"] = {"users": "CAN_READ", "data": "CAN_RUN"}
    async with Driver(databricks.url, entrypoint_folder="/team/flyte").opened() as driver:
        await driver.create(driver.task(EXISTING))
    assert python_file(databricks).startswith("/team/flyte/flyteagents_entrypoint_")


async def test_a_delivery_that_failed_is_tried_again(databricks: FakeDatabricks) -> None:
    refused = error(403, "PERMISSION_DENIED", "no")
    databricks.script("POST", "*/workspace/import", refused)
    async with Driver(databricks.url).opened() as driver:
        with pytest.raises(Forbidden):
            await driver.create(driver.task(EXISTING))
        await driver.create(driver.task(EXISTING))
    assert len(databricks.runs) == 1


@pytest.mark.usefixtures("asked_once")
@pytest.mark.parametrize("what", ["*/workspace/get-status", "*/permissions/*", "*/scim/v2/Me"])
async def test_a_folder_that_is_cleared_meanwhile_is_no_bug(
    databricks: FakeDatabricks, what: str
) -> None:
    databricks.script("GET", what, error(404, "RESOURCE_DOES_NOT_EXIST", "no such folder"))
    async with Driver(databricks.url).opened() as driver:
        with pytest.raises(Unavailable, match="no such folder"):
            await driver.create(driver.task(EXISTING))
        await driver.create(driver.task(EXISTING))
    assert len(databricks.runs) == 1


async def test_a_folder_that_somebody_cleared_is_filled_again(
    databricks: FakeDatabricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Driver(databricks.url).opened() as driver:
        await driver.create(driver.task(EXISTING))
        path = python_file(databricks)
        databricks.workspace.files.clear()
        monkeypatch.setattr("flyteagents_databricks.delivery.LOOKED_AT", 0.0)
        await driver.create(driver.task(EXISTING, execution="later"))
    assert databricks.workspace.read(path) == entrypoint_text()


async def test_a_run_that_did_not_find_it_is_retried_with_it_on_any_replica(
    databricks: FakeDatabricks,
) -> None:
    async with (
        Driver(databricks.url).opened() as first,
        Driver(databricks.url).opened() as second,
    ):
        await second.create(second.task(EXISTING, execution="another"))
        databricks.runs.clear()
        job = await first.create(first.task(EXISTING))
        path = python_file(databricks)
        databricks.workspace.files.clear()
        databricks.run.plan = gone(path)
        status = await first.get(job)
        assert status.phase is Phase.RETRYABLE_FAILED
        assert "the next attempt puts it back" in str(status.message)
        # Which has seen it there a moment ago.
        await second.create(second.task(EXISTING, number=1))
    assert databricks.workspace.read(path) == entrypoint_text()


async def test_a_file_of_the_tasks_own_that_is_not_there_is_the_tasks_fault(
    databricks: FakeDatabricks,
) -> None:
    async with Driver(databricks.url).opened() as driver:
        job = await driver.create(driver.task({**EXISTING, "python_file": "/Workspace/mine.py"}))
        databricks.run.plan = gone("/Workspace/mine.py")
        status = await driver.get(job)
    assert status.phase is Phase.FAILED
    assert "puts it back" not in str(status.message)


async def test_the_end_of_ones_time_is_not_the_end_of_those_who_wait_for_the_same_delivery(
    databricks: FakeDatabricks,
) -> None:
    async with Driver(databricks.url).opened() as driver:
        creates = [
            driver.create(driver.task(EXISTING, execution=f"e{seconds}"), seconds=seconds)
            for seconds in (0.0, 60.0)
        ]
        hasty, patient = await asyncio.gather(*creates, return_exceptions=True)
    assert isinstance(hasty, Unavailable)
    assert not isinstance(patient, BaseException)
    assert len(databricks.runs) == 1


async def test_an_operator_may_put_it_somewhere_else(databricks: FakeDatabricks) -> None:
    async with Driver(databricks.url, entrypoint_path="/Volumes/a/b/e.py").opened() as driver:
        await driver.create(driver.task(EXISTING))
    assert python_file(databricks) == "/Volumes/a/b/e.py"
    git: dict[str, Any] = {
        "entrypoint_git_url": "https://git.example/r",
        "entrypoint_git_commit": "8f3c2d1",
        "entrypoint_path": "plugins/e.py",
    }
    async with Driver(databricks.url, **git).opened() as driver:
        await driver.create(driver.task(EXISTING, execution="git"))
    body = databricks.submits[-1]
    assert body["git_source"] == {
        "git_url": "https://git.example/r",
        "git_provider": "gitHub",
        "git_commit": "8f3c2d1",
    }
    assert body["tasks"][0]["spark_python_task"]["source"] == "GIT"
    assert databricks.workspace.imports == []
