"""FlytePropeller's own code runs Snowflake tasks, on a Snowflake that runs the SQL."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from tests.interop.conftest import MakePropeller
from tests.interop.propeller import Task
from tests.interop.vendor import made_up

from flyteagents.testing import RealServer

CUSTOM = {"database": "db", "schema": "PUBLIC", "warehouse": "wh"}


@pytest.fixture
def snowflake() -> Iterator[dict[str, str]]:
    """A Snowflake as a process; gives the variables for its agent."""
    with made_up("snowflake") as told:
        yield json.loads(told)


@pytest.fixture
def server(snowflake: dict[str, str]) -> Iterator[RealServer]:
    with RealServer(["snowflake"], snowflake) as server:
        yield server


def statements(snowflake: dict[str, str]) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{snowflake['FLYTEAGENTS_SNOWFLAKE_URL']}/statements") as reply:
        found: list[dict[str, Any]] = json.loads(reply.read())
    return found


def query(statement: str) -> Task:
    return Task("snowflake", CUSTOM, statement, {"n": 7}, outputs={"results": "table"})


def test_a_query_runs_to_its_result(
    server: RealServer, snowflake: dict[str, str], make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.succeed(query("SELECT %(n)s AS n"), links=["Snowflake Query Details"])
    [one] = statements(snowflake)
    assert (one["text"], one["rows"]) == ("SELECT 7 AS n", [["7"]])
    uri = propeller.outputs()["results"].scalar.structured_dataset.uri
    user, account = (snowflake[f"FLYTEAGENTS_SNOWFLAKE_{what}"] for what in ("USER", "ACCOUNT"))
    assert uri == f"snowflake://{user}:{account}/wh/db/PUBLIC/{one['handle']}"
    assert json.loads(one["tag"])["flyte"]["exec"] == propeller.name


def test_a_query_that_can_never_work_is_tried_once_and_says_why(
    server: RealServer, snowflake: dict[str, str], make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.run(query("SELECT %(n)s FROM nowhere"), attempts=3)
    propeller.wait_for_end("Failed")
    assert "nowhere does not exist" in propeller.error()["message"]
    assert len(statements(snowflake)) == 1


def test_an_aborted_query_is_stopped(
    server: RealServer, snowflake: dict[str, str], make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.abort_running(query("SELECT SYSTEM$WAIT(300)"))
    [one] = statements(snowflake)
    assert one["state"] == "ABORTED"
