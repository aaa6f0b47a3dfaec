"""FlytePropeller's own code runs tasks on our server, with its configuration as shipped."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.interop.conftest import MakePropeller, patient
from tests.interop.propeller import Task
from tests.interop.vendor import VendorService

from flyteagents.testing import RealServer

NUMBER = {"result": "integer"}


def job(script: str) -> Task:
    return Task("interop_job", custom={"script": script}, outputs=NUMBER)


def integer(literal: object) -> int:
    return int(literal.scalar.primitive.integer)  # type: ignore[attr-defined] # protobuf


def test_listagents_alone_routes_the_task_types(
    server: RealServer, make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.run(job("return 42"))
    propeller.wait_for_end("Succeeded")
    assert propeller.calls("ListAgents") >= 1
    assert {line["plugin"] for line in propeller.lines if line["kind"] == "task"} == {
        "connector-service"
    }
    assert "interop_job" not in propeller.config.read_text()


def test_a_job_goes_through_its_phases_to_its_outputs(
    server: RealServer, vendor: VendorService, make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.run(job("pending 3; sleep 5; return 42"), attempts=3)
    propeller.wait_for_end("Succeeded")
    assert propeller.phases() == [
        (0, "QUEUED"),  # a token
        (0, "QUEUED"),  # launched
        (0, "INITIALIZING"),
        (0, "RUNNING"),
        (0, "SUCCEEDED"),
    ]
    assert integer(propeller.outputs()["result"]) == 42
    assert propeller.calls("CreateTask", None) == 1
    assert propeller.calls("GetTask", None) == propeller.calls("GetTask") >= 3
    assert propeller.calls("DeleteTask", None) == 0
    waiting = propeller.wait_for("task", phase="INITIALIZING")
    assert waiting["reasons"] == ["waiting for a slot"]
    only = vendor.jobs(propeller.name)[0]["id"]
    assert waiting["links"] == [{"name": "Job", "uri": f"{vendor.url}/jobs/{only}"}]


def test_a_task_that_cannot_work_is_created_once_although_three_attempts_are_allowed(
    server: RealServer, vendor: VendorService, make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.run(job("nonsense"), attempts=3)
    propeller.wait_for_end("Failed")
    assert propeller.calls("CreateTask", None) == 1
    assert "nonsense" in propeller.error()["message"]
    assert "Traceback" not in propeller.error()["message"]
    assert vendor.jobs(propeller.name) == []


def test_a_retryable_failure_is_tried_again_with_a_job_of_its_own(
    server: RealServer, vendor: VendorService, make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.run(job("fail again, the vendor lost a machine"), attempts=3)
    propeller.wait_for_end("Failed")
    assert propeller.calls("CreateTask", None) == propeller.calls("CreateTask") == 3
    assert propeller.calls("DeleteTask", None) == propeller.calls("DeleteTask") == 2
    assert propeller.error()["code"] == "RetriesExhausted|TaskFailedWithError"
    assert "the vendor lost a machine" in propeller.error()["message"]
    assert len(vendor.jobs(propeller.name)) == 3


def test_an_abort_stops_the_job(
    server: RealServer, vendor: VendorService, make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.run(job("forever"))
    propeller.wait_for("task", phase="RUNNING")
    propeller.abort()
    propeller.wait_for_end("Aborted")
    assert propeller.calls("DeleteTask", None) == propeller.calls("DeleteTask") == 1
    assert [found["state"] for found in vendor.jobs(propeller.name)] == ["CANCELED"]


def test_a_sync_task_ends_in_one_call(server: RealServer, make_propeller: MakePropeller) -> None:
    propeller = make_propeller(server.port)
    propeller.run(
        Task("interop_product", inputs={"a": 6, "b": 7}, outputs={"product": "integer"}), attempts=3
    )
    propeller.wait_for_end("Succeeded")
    assert integer(propeller.outputs()["product"]) == 42
    assert propeller.calls("ExecuteTaskSync", None) == 1
    assert propeller.calls("CreateTask", None) == propeller.calls("GetTask", None) == 0


def test_a_sync_task_that_is_refused_is_called_once(
    server: RealServer, make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.run(Task("interop_product", custom={"refuse": True}), attempts=3)
    propeller.wait_for_end("Failed")
    assert propeller.calls("ExecuteTaskSync", None) == 1
    assert "this product is refused" in propeller.error()["message"]


def test_a_create_whose_round_was_lost_is_repeated_to_another_server_and_finds_its_job(
    server: RealServer, vendor: VendorService, make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port, patient())
    propeller.run(job("sleep 3; return 42"), flags=("-lose-create",))
    propeller.wait_for("failed_round")
    server.restart()
    propeller.wait_for_end("Succeeded")
    assert propeller.calls("CreateTask") == 2
    assert len(vendor.jobs(propeller.name)) == 1


def test_a_server_killed_between_polls_and_started_again_goes_on(
    server: RealServer, vendor: VendorService, make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.run(job("sleep 8; return 42"), attempts=3)
    propeller.wait_for("task", phase="RUNNING")
    server.restart()
    propeller.wait_for_end("Succeeded")
    assert propeller.calls("CreateTask", None) == 1
    assert len(vendor.jobs(propeller.name)) == 1


def test_a_propeller_that_is_started_again_carries_on_from_its_saved_state(
    server: RealServer, vendor: VendorService, make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.run(job("sleep 6; return 42"), attempts=3)
    propeller.wait_for("task", phase="RUNNING")
    propeller.kill()
    propeller.carry_on()
    propeller.wait_for_end("Succeeded")
    assert propeller.calls("CreateTask", None) == 0
    assert propeller.calls("GetTask") >= 1
    assert integer(propeller.outputs()["result"]) == 42
    assert len(vendor.jobs(propeller.name)) == 1


def test_a_restarted_propeller_can_abort_a_job_that_another_server_started(
    server: RealServer,
    vendor: VendorService,
    make_propeller: MakePropeller,
) -> None:
    propeller = make_propeller(server.port)
    propeller.run(job("forever"))
    propeller.wait_for("task", phase="RUNNING")
    propeller.kill()
    server.restart()
    propeller.carry_on()
    propeller.abort()
    propeller.wait_for_end("Aborted")
    assert [found["state"] for found in vendor.jobs(propeller.name)] == ["CANCELED"]


@pytest.mark.usefixtures("acme_plugin")
def test_the_example_agent_of_a_third_party_runs_a_job(
    server: RealServer, make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.run(Task("acme_job", custom={"script": "sleep 3"}), attempts=3)
    propeller.wait_for_end("Succeeded")
    assert propeller.calls("CreateTask", None) == 1


@pytest.mark.usefixtures("duckdb_plugin")
def test_a_duckdb_query_returns_the_declared_number(
    server: RealServer, make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.run(
        Task(
            "duckdb_query",
            sql="select count(*) + $more as total from range(20000000) t(i) where i % 7 = 3",
            inputs={"more": 5},
            outputs={"total": "integer"},
        ),
        attempts=3,
    )
    propeller.wait_for_end("Succeeded")
    assert integer(propeller.outputs()["total"]) == 2857148
    assert propeller.calls("CreateTask", None) == 1


@pytest.mark.usefixtures("duckdb_plugin")
def test_a_duckdb_query_leaves_a_table_where_flyte_wants_it(
    server: RealServer, make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.run(
        Task(
            "duckdb_query",
            sql="select i, i * i as square from range(1000) t(i)",
            outputs={"results": "table"},
        )
    )
    propeller.wait_for_end("Succeeded")
    uri = propeller.outputs()["results"].scalar.structured_dataset.uri
    table = Path(uri.removeprefix("file://"))
    assert (propeller.state / "data") in table.parents
    assert table.exists()


@pytest.mark.usefixtures("duckdb_plugin")
def test_bad_sql_is_created_once_although_three_attempts_are_allowed(
    server: RealServer, make_propeller: MakePropeller
) -> None:
    propeller = make_propeller(server.port)
    propeller.run(Task("duckdb_query", sql="select nothing from nowhere"), attempts=3)
    propeller.wait_for_end("Failed")
    assert propeller.calls("CreateTask", None) == 1
    assert "nowhere" in propeller.error()["message"]
    assert "Traceback" not in propeller.error()["message"]
