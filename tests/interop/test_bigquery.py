"""FlytePropeller's own code runs BigQuery tasks, on a BigQuery that does as it is told."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.interop.conftest import MakePropeller
from tests.interop.propeller import Task

from flyteagents.testing import RealServer, free_port

CUSTOM = {"ProjectID": "p", "Location": "EU", "Domain": "d"}


@pytest.fixture
def bigquery() -> Iterator[str]:
    """A fake BigQuery as a process; gives its address."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bigquery.fake_bigquery", "--port", str(port)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    with process:
        process.wait()


@pytest.fixture
def server(bigquery: str) -> Iterator[RealServer]:
    env = {"FLYTEAGENTS_BIGQUERY_URL": bigquery, "FLYTEAGENTS_BIGQUERY_ANONYMOUS": "true"}
    with RealServer(["bigquery"], env) as server:
        yield server


def jobs(bigquery: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{bigquery}/bigquery/v2/projects/p/jobs") as reply:
        found: list[dict[str, Any]] = json.loads(reply.read())["jobs"]
    return found


def query(statement: str) -> Task:
    return Task(
        "bigquery_query_job_task", CUSTOM, statement, {"n": 7}, outputs={"results": "table"}
    )


def test_a_query_runs_to_its_table(
    server: RealServer, bigquery: str, make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.run(query("SELECT @n"), attempts=3)
    propeller.wait_for_end("Succeeded")
    [job] = jobs(bigquery)
    table = job["configuration"]["query"]["destinationTable"]
    uri = propeller.outputs()["results"].scalar.structured_dataset.uri
    assert uri == f"bq://p:{table['datasetId']}.{table['tableId']}"
    assert job["configuration"]["labels"]["flyte-exec"] == propeller.name
    assert propeller.calls("CreateTask", None) == propeller.calls("CreateTask") == 1
    assert propeller.calls("GetTask", None) == propeller.calls("GetTask")
    done = propeller.wait_for("task", phase="SUCCEEDED")
    assert [link["name"] for link in done["links"]] == ["BigQuery Console"]


def test_a_query_that_can_never_work_is_tried_once_and_says_why(
    server: RealServer, bigquery: str, make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.run(query("SELECT * FROM nowhere.t"), attempts=3)
    propeller.wait_for_end("Failed")
    assert "[BIGQUERY_notFound] Not found: Table p:nowhere.t" in propeller.error()["message"]
    assert len(jobs(bigquery)) == 1


def test_an_aborted_query_is_stopped(
    server: RealServer, bigquery: str, make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.run(query("SELECT 'forever'"))
    propeller.wait_for("task", phase="RUNNING")
    propeller.abort()
    propeller.wait_for_end("Aborted")
    [job] = jobs(bigquery)
    assert job["status"]["errorResult"]["reason"] == "stopped"
    assert propeller.calls("DeleteTask", None) == propeller.calls("DeleteTask")
