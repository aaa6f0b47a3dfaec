"""Where a statement's result is, of several too, and its numbers."""

from __future__ import annotations

import asyncio
import json
import re
import time

import pytest
from tests.snowflake.driving import CONFIG, QUERY_ID, Driver
from tests.snowflake.fake_snowflake import BASE, FakeSnowflake

from flyteagents import Column, Kind, Phase, Reply, Schema, StructuredDataset, Type
from flyteagents.testing import Response
from flyteagents_snowflake import agent as agent_module
from flyteagents_snowflake.answers import Answer, answer

RESULTS = {"results": StructuredDataset}
DECLARED = {"results": Type(Kind.STRUCTURED_DATASET)}


async def test_the_result_is_not_that_of_the_begin_of_a_transaction(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    text = "CREATE TABLE t (n INT); SELECT 7 AS n; BEGIN; INSERT INTO t VALUES (1); COMMIT"
    status = await driver.run(driver.task(text, outputs=RESULTS))
    found = (status.outputs or {})["results"]
    assert isinstance(found, StructuredDataset)
    assert found.uri.endswith(f"/{snowflake.statement.children[1].handle}")


async def test_where_snowflake_counts_other_statements_no_result_is_guessed(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    job = await driver.create(driver.task("SELECT 1; DROP TABLE IF EXISTS t", outputs=RESULTS))
    last = await driver.create(driver.task("SELECT 1; SELECT 2", outputs=RESULTS, number=1))
    handles = [QUERY_ID.replace("01", f"{number}1", 1) for number in range(3)]
    done = {"code": "090001", "statementHandle": job.query_id, "statementHandles": handles}
    snowflake.script("GET", "*", Response(200, done), repeat=True)
    status = await driver.get(job, declared=DECLARED)
    assert status.phase is Phase.FAILED
    assert "3 statements where the agent sees 2" in (status.message or "")
    assert (await driver.get(job)).phase is Phase.SUCCEEDED  # nobody asks for a result
    status = await driver.get(last, declared=DECLARED)
    assert str((status.outputs or {})["results"]).count(handles[2]) == 1


async def test_the_result_is_that_of_the_last_statement_that_returns_rows(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    task = driver.task(
        "BEGIN; CREATE TEMP TABLE t AS SELECT 1 AS n; SELECT n FROM t; COMMIT", outputs=RESULTS
    )
    status = await driver.run(task)
    assert status.phase is Phase.SUCCEEDED
    child = snowflake.statement.children[2]
    found = (status.outputs or {})["results"]
    assert isinstance(found, StructuredDataset)
    assert found.uri.endswith(f"/{child.handle}")
    assert child.result is not None
    assert child.result.rows == [["1"]]
    assert status.statistics == {"statements": 4}


@pytest.mark.parametrize(
    ("runtime", "user"), [("1.16.31", "me:acct"), ("0.32.6", "me:acct"), ("2.12.1", "me/acct")]
)
async def test_the_uri_is_in_the_dialect_of_the_sdk_that_wrote_the_task(
    snowflake: FakeSnowflake, driver: Driver, runtime: str, user: str
) -> None:
    columns = (Column("n", Type(Kind.INTEGER)),)
    table = Type(Kind.STRUCTURED_DATASET, columns=columns, format="parquet")
    status = await driver.run(driver.task(outputs={"results": table}, runtime=runtime))
    handle = snowflake.statement.handle
    uri = f"snowflake://{user}/wh/db/public/{handle}"
    assert status.outputs == {"results": StructuredDataset(uri, columns, "parquet")}


@pytest.mark.parametrize(
    ("account", "given", "read"),
    [
        ("https://acct.snowflakecomputing.com/", {}, "acct"),
        ("acct.eu-central-1.snowflakecomputing.com", {}, "acct.eu-central-1"),
        ("acct", {"region": "eu-central-1"}, "acct.eu-central-1"),
        ("acct", {"region": "eu-central-1", "host": "sf.internal"}, "acct"),
    ],
)
async def test_the_uri_names_the_account_as_the_driver_of_its_readers_takes_it(
    driver: Driver, account: str, given: dict[str, object], read: str
) -> None:
    custom = {**CONFIG, "account": account, "connection_kwargs": given}
    job = await driver.create(driver.task(custom=custom, outputs=RESULTS))
    outputs = (await driver.ended(job, declared=DECLARED)).outputs
    found = (outputs or {})["results"]
    assert isinstance(found, StructuredDataset)
    parts = re.split(r"\/|://|:", found.uri)  # as both SDKs do
    assert parts[1:3] == ["me", read]
    assert len(parts) == 7
    region = read.partition(".")[2] or "us-west-2"
    assert f".com/{region}/acct/" in driver.agent.links(job)[0].uri


async def test_a_large_result_is_not_read(snowflake: FakeSnowflake, driver: Driver) -> None:
    job = await driver.create(driver.task(outputs=RESULTS))
    await driver.ended(job)
    rows = [[str(number)] * 100 for number in range(10_000)]
    done = {"code": "090001", "statementHandle": job.query_id, "data": [*rows, [1, True, {}]]}
    snowflake.script("GET", "*", Response(200, done), repeat=True)
    # Whatever a cell is, it says nothing of the statement, which has ended.
    assert (await driver.get(job, declared=DECLARED)).phase is Phase.SUCCEEDED

    reply = Reply(200, {}, json.dumps(done).encode())
    took = []
    for read in (lambda: answer(reply, Answer), lambda: json.loads(reply.body)):
        times = []
        for _ in range(3):
            began = time.process_time()
            read()
            times.append(time.process_time() - began)
        took.append(min(times))
    # The event loop stands still meanwhile.
    assert took[0] < took[1]


async def test_an_output_that_is_no_table_fails_in_words(driver: Driver) -> None:
    status = await driver.run(driver.task("SELECT 1", outputs={"n": int}))
    assert status.phase is Phase.FAILED
    assert "output 'n' is declared as integer" in (status.message or "")
    assert (await driver.run(driver.task(outputs={"t": Schema}, execution="2"))).outputs


async def test_the_numbers_of_a_statement_are_told(
    snowflake: FakeSnowflake, driver: Driver
) -> None:
    snowflake.rows("CREATE TABLE public.t (n INT)")
    inserted = await driver.run(driver.task("INSERT INTO t SELECT range FROM range(5)"))
    assert inserted.statistics["rows_inserted"] == 5
    assert inserted.started is not None
    selected = await driver.run(driver.task("SELECT * FROM t", execution="2"))
    assert selected.statistics["rows"] == 5
    assert selected.info["query_id"] == snowflake.submitted[-1].handle
    assert "warehouse" not in selected.statistics


async def test_the_history_adds_its_numbers_and_never_holds_a_result_back(
    snowflake: FakeSnowflake, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Driver(snowflake.url, history=True).opened() as driver:
        status = await driver.run(driver.task())
        numbers = status.statistics
        assert (numbers["warehouse"], numbers["warehouse_size"]) == ("WH", "X-Small")
        assert (numbers["bytes_scanned"], numbers["compile_ms"]) == (1024, 12)
        assert numbers["cloud_services_credits"] == 1e-05
        monkeypatch.setattr(agent_module, "HISTORY_LIMIT", 0.1)
        job = await driver.create(driver.task(execution="2"))
        await driver.ended(job)
        snowflake.runner.busy.add("WH")
        status = await asyncio.wait_for(driver.get(job, seconds=60.0), 10)
        assert status.phase is Phase.SUCCEEDED
        assert "warehouse" not in status.statistics
        snowflake.script("POST", BASE, Response(500))
        assert (await driver.get(job)).phase is Phase.SUCCEEDED
