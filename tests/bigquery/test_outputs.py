"""Where the result is."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.bigquery.driving import CUSTOM, Driver
from tests.bigquery.fake_bigquery import FakeBigQuery, Plan

import flyteagents_bigquery.outputs
from flyteagents import Column, Kind, Phase, StructuredDataset, Type, Unavailable
from flyteagents._vendor import pool
from flyteagents.testing import Response

COLUMNS = (Column("i", Type(Kind.INTEGER)),)
RESULTS = {"results": Type(Kind.STRUCTURED_DATASET, columns=COLUMNS, format="parquet")}
TARGET = {"projectId": "p", "datasetId": "ds", "tableId": "made"}


async def results(driver: Driver, statement: str = "SELECT 1", **custom: Any) -> StructuredDataset:
    status = await driver.run(driver.task(statement, {**CUSTOM, **custom}, outputs=RESULTS))
    assert status.phase is Phase.SUCCEEDED, status
    assert status.outputs is not None
    [(name, value)] = status.outputs.items()
    assert name == "results"
    assert isinstance(value, StructuredDataset)
    return value


async def test_a_selects_table_has_the_declared_columns_and_format(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    found = await results(driver)
    assert (found.columns, found.format) == (COLUMNS, "parquet")
    table = bigquery.job.configuration["query"]["destinationTable"]
    assert found.uri == f"bq://p:{table['datasetId']}.{table['tableId']}"


async def test_flytekits_reader_finds_four_parts_in_the_uri(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    found = await results(driver, destinationTable=TARGET)
    assert re.split(r"\.|://|:", found.uri) == ["bq", "p", "ds", "made"]


async def test_a_partition_that_is_written_is_its_tables(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    partition = {"projectId": "p", "datasetId": "ds", "tableId": "events$20250502"}
    assert (await results(driver, destinationTable=partition)).uri == "bq://p:ds.events"


async def test_a_reply_without_a_configuration_is_asked_for_again_whole(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    task = driver.task(outputs=RESULTS)
    job = await driver.create(task)
    bare = bigquery.job.shown()
    del bare["configuration"]
    bigquery.script("GET", "*", Response(200, bare))
    status = await driver.get(job)
    assert status.phase is Phase.SUCCEEDED
    assert "results" in (status.outputs or {})

    bigquery.script("GET", "*", Response(200, bare), repeat=True)
    with pytest.raises(Unavailable, match="where its result is"):
        await driver.get(job)
    made = {"statementType": "CREATE_TABLE_AS_SELECT", "ddlTargetTable": TARGET}
    bare["statistics"]["query"] = made
    status = await driver.get(job)
    assert status.outputs == {"results": StructuredDataset("bq://p:ds.made", COLUMNS, "parquet")}


async def test_an_optional_table_is_an_output(bigquery: FakeBigQuery, driver: Driver) -> None:
    optional = Type(Kind.UNION, (RESULTS["results"], Type(Kind.NONE)))
    status = await driver.run(driver.task(outputs={"results": optional}))
    assert isinstance((status.outputs or {})["results"], StructuredDataset)


async def test_an_older_schema_is_an_output_too(bigquery: FakeBigQuery, driver: Driver) -> None:
    task = driver.task(outputs={"results": Type(Kind.SCHEMA)})
    status = await driver.run(task)
    assert status.phase is Phase.SUCCEEDED
    assert isinstance((status.outputs or {})["results"], StructuredDataset)


async def test_where_nobody_knows_what_is_declared_the_result_has_flytekits_name(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    outputs = (await driver.run(driver.task())).outputs or {}
    assert list(outputs) == ["results"]
    assert isinstance(outputs["results"], StructuredDataset)


@pytest.mark.parametrize("kind", ["SCRIPT", "DROP_TABLE"])
async def test_where_nothing_is_declared_a_job_may_have_no_result(
    bigquery: FakeBigQuery, driver: Driver, kind: str
) -> None:
    bigquery.will("DO", Plan(statement_type=kind))
    status = await driver.run(driver.task("DO"))
    assert (status.phase, status.outputs) == (Phase.SUCCEEDED, {})


async def test_create_table_as_select_is_the_table_it_made(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    made = {"ddlTargetTable": TARGET}
    bigquery.will("CREATE", Plan(statement_type="CREATE_TABLE_AS_SELECT", query=made))
    assert (await results(driver, "CREATE TABLE ds.made AS SELECT 1")).uri == "bq://p:ds.made"


@pytest.mark.parametrize(
    "kind",
    ["CREATE_VIEW", "CREATE_MATERIALIZED_VIEW", "DROP_TABLE", "EXPORT_DATA", "ASSERT", ""],
)
async def test_a_statement_without_a_result_fails_a_task_that_declares_one_and_says_why(
    bigquery: FakeBigQuery, driver: Driver, kind: str
) -> None:
    bigquery.will("DO", Plan(statement_type=kind))
    status = await driver.run(driver.task("DO", outputs=RESULTS))
    assert status.phase is Phase.FAILED
    assert status.message is not None
    assert kind in status.message
    assert "end the query with a SELECT" in status.message
    assert (await driver.run(driver.task("DO", number=1))).phase is Phase.SUCCEEDED


async def test_an_output_that_is_no_table_is_refused(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    status = await driver.run(driver.task(outputs={"n": int}))
    assert status.phase is Phase.FAILED
    assert status.message is not None
    assert "'n' is declared as integer" in status.message


def script(*children: Plan, **more: Any) -> Plan:
    return Plan(statement_type="SCRIPT", children=children, **more)


EXPRESSION = {"scriptStatistics": {"evaluationKind": "EXPRESSION"}}
STATEMENT = {"scriptStatistics": {"evaluationKind": "STATEMENT"}}


async def test_a_scripts_result_is_that_of_its_last_select(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    children = [
        Plan(statistics=STATEMENT),
        Plan(statistics=STATEMENT),
        Plan(statement_type="INSERT"),
        Plan(statistics=EXPRESSION),
        Plan(error=("invalidQuery", "handled")),
    ]
    bigquery.will("BEGIN", script(*children))
    found = await results(driver, "BEGIN ... END")
    wanted = bigquery.jobs["p", "script_job_1"].configuration["query"]["destinationTable"]
    assert found.uri == f"bq://p:{wanted['datasetId']}.{wanted['tableId']}"


async def test_a_scripts_first_select_is_its_result_where_asked_for(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    bigquery.will("BEGIN", script(Plan(statement_type="INSERT"), Plan(), Plan()))
    options = {"keyResultStatement": "FIRST_SELECT"}
    found = await results(driver, "BEGIN ... END", scriptOptions=options)
    wanted = bigquery.jobs["p", "script_job_1"].configuration["query"]["destinationTable"]
    assert wanted["tableId"] in found.uri


async def test_a_long_scripts_children_are_all_looked_at(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    # The only SELECT is the oldest child, on the last of three pages.
    bigquery.will("BEGIN", script(Plan(), *[Plan(statement_type="INSERT")] * 120))
    found = await results(driver, "BEGIN ... END")
    wanted = bigquery.jobs["p", "script_job_0"].configuration["query"]["destinationTable"]
    assert wanted["tableId"] in found.uri


async def test_a_scripts_statements_are_listed_without_what_they_did(
    bigquery: FakeBigQuery, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan or a timeline may be a megabyte, and a page has the statements of 500."""
    monkeypatch.setattr(pool, "REPLY_LIMIT", 50_000)
    plan = [{"name": f"S{number:02}: {'x' * 100}"} for number in range(100)]
    done = Plan(query={"queryPlan": plan, "timeline": plan})
    bigquery.will("BEGIN", script(*[done] * 30))
    found = await results(driver, "BEGIN ... END")
    wanted = bigquery.jobs["p", "script_job_29"].configuration["query"]["destinationTable"]
    assert wanted["tableId"] in found.uri
    job = await driver.create(driver.task("BEGIN ... END", outputs=RESULTS))
    log = await driver.env.logs(job, "", 100)
    assert sum("SELECT done" in line.message for line in log.lines) == 30


async def test_statements_of_a_script_that_bigquery_cannot_list_now_are_asked_for_again(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    bigquery.will("BEGIN", script(Plan()))
    job = await driver.create(driver.task("BEGIN ... END", outputs=RESULTS))
    skipped = Response(200, {"unreachable": ["europe-west5", job.location]})
    away = bigquery.script("GET", "*/jobs", skipped, repeat=True)
    with pytest.raises(Unavailable, match=f"cannot list the jobs in europe-west5, {job.location}"):
        await driver.get(job, declared=RESULTS)
    nowhere = job.model_copy(update={"location": None})  # another connector did not keep it
    with pytest.raises(Unavailable, match="cannot list the jobs"):
        await driver.get(nowhere, declared=RESULTS)
    away.stop()

    child = bigquery.jobs["p", "script_job_0"].shown()
    elsewhere = {"unreachable": ["europe-west5"], "jobs": [child]}
    bigquery.script("GET", "*/jobs", Response(200, elsewhere))
    assert (await driver.get(job, declared=RESULTS)).phase is Phase.SUCCEEDED


async def test_of_two_selects_that_began_in_one_millisecond_the_last_is_the_result(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    at_once = {"startTime": "1700000000000"}
    bigquery.will("BEGIN", script(Plan(statistics=at_once), Plan(statistics=at_once)))
    found = await results(driver, "BEGIN ... END")
    wanted = bigquery.jobs["p", "script_job_1"].configuration["query"]["destinationTable"]
    assert wanted["tableId"] in found.uri


async def test_the_first_select_of_a_script_is_not_guessed_where_it_is_too_far_back(
    bigquery: FakeBigQuery, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flyteagents_bigquery.outputs, "PAGES", 1)
    bigquery.will("BEGIN", script(*[Plan()] * 60))
    first = {**CUSTOM, "scriptOptions": {"keyResultStatement": "FIRST_SELECT"}}
    status = await driver.run(driver.task("BEGIN ... END", first, outputs=RESULTS))
    assert status.phase is Phase.FAILED
    assert "60 statements" in (status.message or "")
    status = await driver.run(driver.task("BEGIN ... END", outputs=RESULTS, number=1))
    assert status.phase is Phase.SUCCEEDED


async def test_a_script_without_a_select_says_so(bigquery: FakeBigQuery, driver: Driver) -> None:
    bigquery.will("BEGIN", script(Plan(statement_type="INSERT")))
    status = await driver.run(driver.task("BEGIN ... END", outputs=RESULTS))
    assert status.phase is Phase.FAILED
    assert status.message is not None
    assert "no statement of the script is a SELECT" in status.message


async def test_a_running_script_is_one_request_a_poll(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    bigquery.will("BEGIN", script(Plan(), running=60.0))
    job = await driver.create(driver.task("BEGIN ... END", outputs=RESULTS))
    before = bigquery.total
    assert (await driver.get(job)).phase is Phase.RUNNING
    assert bigquery.total == before + 1
