"""FlytePropeller's own code runs Databricks tasks, on a workspace that does as it is told."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from tests.interop.conftest import MakePropeller
from tests.interop.propeller import Task
from tests.interop.vendor import made_up

from flyteagents.testing import RealServer, free_port

TOKEN = "dapi0123456789abcdef0123456789abcdef"


@pytest.fixture
def databricks() -> Iterator[str]:
    """A made-up workspace as a process; gives its address."""
    port = free_port()
    with made_up("databricks", "--port", str(port)):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def server(databricks: str) -> Iterator[RealServer]:
    env = {
        "FLYTEAGENTS_DATABRICKS_URL": databricks,
        "FLYTEAGENTS_SECRET_FLYTE_DATABRICKS_ACCESS_TOKEN": TOKEN,
    }
    with RealServer(["databricks"], env) as server:
        yield server


def runs(databricks: str) -> list[dict[str, Any]]:
    request = urllib.request.Request(
        f"{databricks}/api/2.2/jobs/runs/list", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(request) as reply:
        found: list[dict[str, Any]] = json.loads(reply.read())["runs"]
    return found


def notebook(path: str) -> Task:
    custom = {
        "databricksInstance": "my-workspace.cloud.databricks.com",
        "databricksConf": {"existing_cluster_id": "0923-164208-meows279"},
        "notebookPath": path,
    }
    return Task("databricks", custom, "", {"rows": 500}, outputs={"n": "integer"})


def test_a_notebook_runs_to_its_outputs(
    server: RealServer, databricks: str, make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    links = ["Databricks Console", "Spark UI", "Driver Logs"]
    propeller.succeed(notebook("/Users/me/n"), links=links)
    assert propeller.outputs()["n"].scalar.primitive.integer == 500
    [run] = runs(databricks)
    [task] = run["tasks"]
    assert task["notebook_task"]["base_parameters"] == {"rows": "500"}
    assert propeller.name in run["run_name"]
    assert TOKEN not in server.log


def test_a_notebook_that_fails_says_why(
    server: RealServer, databricks: str, make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.run(notebook("/fails"))
    propeller.wait_for_end("Failed")
    assert "[DATABRICKS_RUN_EXECUTION_ERROR] no" in propeller.error()["message"]
    assert len(runs(databricks)) == 1


def test_an_aborted_notebook_is_stopped(
    server: RealServer, databricks: str, make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.abort_running(notebook("/forever"))
    [run] = runs(databricks)
    assert run["state"]["result_state"] == "CANCELED"
