"""Numbers and logs of a job."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from tests.bigquery.driving import CUSTOM, Driver
from tests.bigquery.fake_bigquery import FakeBigQuery, Plan

from flyteagents import LogLine, Phase
from flyteagents._redact import remember

T0 = 1_700_000_000_000
AT = {"creationTime": str(T0), "startTime": str(T0 + 250), "endTime": str(T0 + 2250)}
READ = [{"projectId": "p", "datasetId": "ds", "tableId": f"t{number}"} for number in (1, 2)]
QUERY: dict[str, Any] = {
    "totalBytesBilled": "10485760",
    "billingTier": 1,
    "cacheHit": False,
    "referencedTables": READ,
    "queryPlan": [{"recordsWritten": "500"}, {"recordsWritten": "7", "name": "S01: Output"}],
    "timeline": [
        {
            "elapsedMs": "1000",
            "totalSlotMs": "3000",
            "pendingUnits": "2",
            "completedUnits": "1",
            "activeUnits": "4",
        }
    ],
}
STATISTICS = {
    **AT,
    "totalBytesProcessed": "5000000",
    "totalSlotMs": "8000",
    "edition": "ENTERPRISE",
    "reservation_id": "x:EU.r",
}


async def test_a_finished_jobs_numbers_are_told(bigquery: FakeBigQuery, driver: Driver) -> None:
    bigquery.will("SELECT", Plan(statistics=STATISTICS, query=QUERY))
    status = await driver.run(driver.task())
    numbers = {
        "statement_type": "SELECT",
        "bytes_processed": 5_000_000,
        "bytes_billed": 10_485_760,
        "slot_ms": 8000,
        "cache_hit": False,
        "rows": 7,
        "queue_ms": 250,
        "run_ms": 2000,
        "reservation": "x:EU.r",
        "edition": "ENTERPRISE",
    }
    assert status.statistics == numbers
    assert status.started == datetime.fromtimestamp((T0 + 250) / 1000, timezone.utc)
    assert status.ended == datetime.fromtimestamp((T0 + 2250) / 1000, timezone.utc)
    table = bigquery.job.configuration["query"]["destinationTable"]
    assert status.info == {
        **numbers,
        "job": bigquery.job.id,
        "project": "p",
        "location": "EU",
        "state": "DONE",
        "average_slots": 4.0,
        "billing_tier": 1,
        "completion_ratio": 1.0,
        "referenced_tables": ["p.ds.t1", "p.ds.t2"],
        "destination_table": f"p.{table['datasetId']}.{table['tableId']}",
    }


async def test_the_session_of_a_job_is_told(bigquery: FakeBigQuery, driver: Driver) -> None:
    session = {"sessionInfo": {"sessionId": "CgwKCmZha2"}}
    bigquery.will("SELECT", Plan(statistics=session))
    custom = {**CUSTOM, "createSession": True}
    status = await driver.run(driver.task("SELECT 1", custom))
    assert status.info["session_id"] == "CgwKCmZha2"
    assert bigquery.body["configuration"]["query"]["createSession"] is True
    assert "session_id" not in (await driver.run(driver.task("DROP TABLE t", number=1))).info


async def test_rows_that_dml_changed_are_told(bigquery: FakeBigQuery, driver: Driver) -> None:
    changed = {"insertedRowCount": "2", "updatedRowCount": "3", "deletedRowCount": "4"}
    query = {"dmlStats": changed, "numDmlAffectedRows": "9"}
    bigquery.will("MERGE", Plan(statement_type="MERGE", query=query))
    numbers = (await driver.run(driver.task("MERGE ..."))).statistics
    assert numbers["rows"] == 9
    assert [numbers[f"rows_{what}"] for what in ("inserted", "updated", "deleted")] == [2, 3, 4]


async def test_a_running_job_tells_how_far_it_is(bigquery: FakeBigQuery, driver: Driver) -> None:
    bigquery.will("SELECT", Plan(running=60, statistics={"completionRatio": 0.5}))
    status = await driver.run(driver.task())
    assert status.phase is Phase.RUNNING
    assert status.info["completion_ratio"] == 0.5
    assert status.ended is None


async def test_no_ratio_of_a_running_job_outlasts_it(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    bigquery.will("SELECT", Plan(error=("invalidQuery", "division by zero")))
    assert (await driver.run(driver.task())).info["completion_ratio"] == 0.0
    bigquery.will("SELECT", Plan())
    assert (await driver.run(driver.task(number=1))).info["completion_ratio"] == 1.0


async def test_numbers_that_make_no_sense_fail_no_poll(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    odd: dict[str, Any] = {
        "creationTime": "soon",
        "endTime": None,
        "totalSlotMs": {},
        "numChildJobs": "many",
    }
    bigquery.will("SELECT", Plan(statistics=odd, query={"cacheHit": None, "queryPlan": []}))
    assert (await driver.run(driver.task())).phase is Phase.SUCCEEDED


async def lines(driver: Driver, statement: str = "SELECT 1", count: int = 100) -> list[LogLine]:
    job = await driver.create(driver.task(statement))
    page = await driver.env.logs(job, "", count)
    assert page.next == ""
    return list(page.lines)


async def test_the_log_is_the_jobs_timeline(bigquery: FakeBigQuery, driver: Driver) -> None:
    bigquery.will("SELECT", Plan(statistics=STATISTICS, query=QUERY))
    found = await lines(driver)
    texts = [line.message for line in found]
    assert texts[0] == "created in EU"
    assert texts[1] == "started"
    assert texts[2] == "1 units of work done, 4 active, 2 pending, 3000 slot ms"
    assert texts[3].startswith("done: statement_type=SELECT, bytes_processed=5000000")
    assert any("stage S01: Output" in text for text in texts)
    assert [line.timestamp for line in found[:2]] == [
        datetime.fromtimestamp(ms / 1000, timezone.utc) for ms in (T0, T0 + 250)
    ]


async def test_a_scripts_log_has_its_statements_where_they_stand(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    frame = {"startLine": 2, "startColumn": 5, "text": "INSERT INTO t\nVALUES (1)"}
    where = {"scriptStatistics": {"stackFrames": [frame]}}
    children = [
        Plan(statement_type="INSERT", statistics=where),
        Plan(statement_type="SELECT", statistics=where, error=("invalidQuery", "no such t")),
    ]
    failed = ("invalidQuery", "Query error: no such t at [2:5]")
    bigquery.will("BEGIN", Plan(statement_type="SCRIPT", children=children, error=failed))
    texts = [(line.message, line.system) for line in await lines(driver, "BEGIN ... END")]
    assert ("[2:5] INSERT done (INSERT INTO t VALUES (1))", True) in texts
    assert ("[2:5] SELECT invalidQuery: no such t (INSERT INTO t VALUES (1))", False) in texts
    assert ("invalidQuery: Query error: no such t at [2:5]", False) in texts


async def test_a_long_statement_in_a_scripts_log_ends_with_no_half_of_a_secret(
    bigquery: FakeBigQuery, driver: Driver
) -> None:
    secret = "c4nary" * 10
    remember(secret)
    frame = {"startLine": 1, "startColumn": 1, "text": f"SELECT '{'x' * 180}', '{secret}'"}
    child = Plan(statement_type="SELECT", statistics={"scriptStatistics": {"stackFrames": [frame]}})
    bigquery.will("BEGIN", Plan(statement_type="SCRIPT", children=[child]))
    [text] = [
        line.message for line in await lines(driver, "BEGIN ... END") if "[1:1]" in line.message
    ]
    assert "c4n" not in text
    assert text.startswith("[1:1] SELECT done (SELECT 'xxx")


async def test_a_log_comes_in_pages(bigquery: FakeBigQuery, driver: Driver) -> None:
    bigquery.will("SELECT", Plan(statistics=STATISTICS, query=QUERY))
    whole = await lines(driver)
    job = await driver.create(driver.task())
    found: list[LogLine] = []
    token = ""
    while True:
        page = await driver.env.logs(job, token, 2)
        assert len(page.lines) <= 2
        found += page.lines
        token = page.next
        if not token:
            break
    assert found == whole
