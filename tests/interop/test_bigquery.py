"""FlytePropeller's own code runs BigQuery tasks, on a BigQuery that does as it is told."""

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

CUSTOM = {"ProjectID": "p", "Location": "EU", "Domain": "d"}


@pytest.fixture
def bigquery() -> Iterator[str]:
    """A fake BigQuery as a process; gives its address."""
    port = free_port()
    with made_up("bigquery", "--port", str(port)):
        yield f"http://127.0.0.1:{port}"


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
    propeller.succeed(query("SELECT @n"), links=["BigQuery Console"])
    [job] = jobs(bigquery)
    table = job["configuration"]["query"]["destinationTable"]
    uri = propeller.outputs()["results"].scalar.structured_dataset.uri
    assert uri == f"bq://p:{table['datasetId']}.{table['tableId']}"
    assert job["configuration"]["labels"]["flyte-exec"] == propeller.name


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
    propeller.abort_running(query("SELECT 'forever'"))
    [job] = jobs(bigquery)
    assert job["status"]["errorResult"]["reason"] == "stopped"
