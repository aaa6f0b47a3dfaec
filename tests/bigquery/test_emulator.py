"""Real SQL: the agent against the emulator, which runs it. Skipped where there is no emulator.

Its one location is US, it knows no statistics, and takes any credentials; see fake_bigquery.py for
those.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from tests.bigquery.driving import Driver
from tests.bigquery.emulator import ENVIRONMENT, emulator, need_emulator

from flyteagents import InvalidTask, JobConflict, Kind, Phase, Status, StructuredDataset, Type
from flyteagents.testing import Declared
from flyteagents_bigquery.job import BigQueryJob
from flyteagents_bigquery.resource import LISTED, POLLED

CUSTOM = {"ProjectID": "p", "Location": "US", "Domain": "d"}
NOON = datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
RESULTS = {"results": StructuredDataset}
# Some thousand million steps, so it runs until it is stopped.
_NUMBERS = "UNNEST(GENERATE_ARRAY(1, 200000))"
ENDLESS = f"SELECT COUNT(*) FROM {_NUMBERS} a, {_NUMBERS} b WHERE a * b = 7"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    need_emulator()
    with emulator() as url:
        yield url


@pytest.fixture
async def emulated(url: str) -> AsyncIterator[Driver]:
    async with Driver(url).opened() as driver:
        yield driver


async def ended(driver: Driver, job: BigQueryJob) -> Status:
    return await driver.env.until(job, within=60.0)


async def rows(
    driver: Driver,
    statement: str,
    inputs: dict[str, object] | None = None,
    interface: dict[str, Declared] | None = None,
    *,
    execution: str = "run",
) -> list[list[Any]]:
    """Runs a statement, and reads the table that its output names."""
    task = driver.task(statement, CUSTOM, inputs, interface, outputs=RESULTS, execution=execution)
    job = await driver.create(task)
    status = await ended(driver, job)
    assert status.phase is Phase.SUCCEEDED, status
    assert status.outputs is not None
    result = status.outputs["results"]
    assert isinstance(result, StructuredDataset)
    _, project, dataset, table = re.split(r"\.|://|:", result.uri)
    path = f"/projects/{project}/datasets/{dataset}/tables/{table}/data"
    reply = await driver.env.call("get", job).http.get(path)
    found: list[list[Any]] = [
        [cell["v"] for cell in row["f"]] for row in reply.json().get("rows", ())
    ]
    return found


async def test_a_query_runs_and_its_result_is_where_the_output_says(emulated: Driver) -> None:
    assert await rows(emulated, "SELECT 1 AS a, 'x' AS b") == [["1", "x"]]


@pytest.mark.parametrize(
    ("value", "declared", "expression", "found"),
    [
        (2**53 + 1, int, "@x", "9007199254740993"),
        (-0.5, float, "@x", "-0.5"),
        (math.nan, float, "IS_NAN(@x)", "true"),
        (-math.inf, float, "IS_INF(@x) AND @x < 0", "true"),
        ('it\'s "ü"', str, "@x", 'it\'s "ü"'),
        (True, bool, "NOT @x", "false"),
        (NOON, datetime, "FORMAT_DATETIME('%F %T', @x)", "2024-01-02 03:04:05"),
        (NOON, datetime, "CAST(DATE(@x) AS STRING)", "2024-01-02"),
        ("green", Type(Kind.ENUM, values=("red", "green")), "@x", "green"),
        ([3, 4], list[int], "ARRAY_LENGTH(@x)", "2"),
        ([3, 4], list[int], "(SELECT SUM(y) FROM UNNEST(@x) y)", "7"),
        ([], list[int], "ARRAY_LENGTH(@x)", "0"),
        ([], list[str], "'a' IN UNNEST(@x)", "false"),
        ([NOON], list[datetime], "CAST(DATE(@x[OFFSET(0)]) AS STRING)", "2024-01-02"),
        (None, int | None, "@x IS NULL", "true"),
        (5, int | None, "@x + 1", "6"),
        ({"a": {"b": 2}}, Type(Kind.STRUCT), "JSON_VALUE(@x, '$.a.b')", "2"),
        ({"k": "v"}, dict[str, str], "JSON_VALUE(@x, '$.k')", "v"),
        (StructuredDataset("bq://p:d.t"), StructuredDataset, "@x", "p.d.t"),
    ],
)
async def test_each_type_of_input_is_a_parameter(
    emulated: Driver, value: object, declared: Declared, expression: str, found: str
) -> None:
    # A key of its own for each: their tasks have the same name.
    execution = f"run-{abs(hash((str(value), expression)))}"
    answer = await rows(
        emulated, f"SELECT {expression} AS x", {"x": value}, {"x": declared}, execution=execution
    )
    assert answer == [[found]]


async def test_a_duration_can_be_microseconds(emulated: Driver) -> None:
    # The emulator does not read an INTERVAL as BigQuery writes it.
    task = emulated.task(
        "SELECT IF(@x = 1500000, 1, ERROR('another number')) AS x",
        {**CUSTOM, "durationParamType": "INT64"},
        {"x": timedelta(seconds=1.5)},
        execution="duration",
    )
    status = await ended(emulated, await emulated.create(task))
    assert status.phase is Phase.SUCCEEDED, status


async def test_the_type_that_the_config_declares_reaches_the_query(emulated: Driver) -> None:
    theirs = {"queryParameters": [{"name": "x", "parameterType": {"type": "DATE"}}]}
    task = emulated.task(
        "SELECT EXTRACT(DAY FROM @x) AS x",
        {**CUSTOM, **theirs},
        {"x": NOON.replace(hour=0, minute=0, second=0, microsecond=0)},
        execution="date",
    )
    status = await ended(emulated, await emulated.create(task))
    assert status.phase is Phase.SUCCEEDED, status


async def test_a_repeated_create_is_one_job_and_other_work_a_conflict(emulated: Driver) -> None:
    made = await emulated.create(emulated.task("SELECT 1", CUSTOM, execution="twice"))
    again = await emulated.create(emulated.task("SELECT 1", CUSTOM, execution="twice"))
    assert again == made
    with pytest.raises(JobConflict):
        await emulated.create(emulated.task("SELECT 2", CUSTOM, execution="twice"))


async def test_a_table_is_made_replaced_and_read(emulated: Driver) -> None:
    await rows_made(emulated, "CREATE SCHEMA made", execution="schema")
    table = {"projectId": "p", "datasetId": "made", "tableId": "t"}
    custom = {**CUSTOM, "destinationTable": table, "writeDisposition": "WRITE_TRUNCATE"}
    for number in (1, 2):
        task = emulated.task(
            f"SELECT {number} AS n", custom, outputs=RESULTS, execution="table", number=number
        )
        status = await ended(emulated, await emulated.create(task))
        assert status.outputs == {"results": StructuredDataset("bq://p:made.t")}
    assert await rows(emulated, "SELECT n FROM made.t", execution="read") == [["2"]]
    changed = await rows_made(emulated, "INSERT INTO made.t VALUES (3)", execution="insert")
    assert changed.statistics["rows"] == 1
    created = "CREATE TABLE made.u AS SELECT 5 AS n"
    assert await rows(emulated, created, execution="ctas") == [["5"]]


async def rows_made(driver: Driver, statement: str, **options: Any) -> Status:
    """Runs a statement for what it does."""
    status = await ended(driver, await driver.create(driver.task(statement, CUSTOM, **options)))
    assert status.phase is Phase.SUCCEEDED, status
    return status


async def test_the_result_of_a_script_is_that_of_its_last_select(emulated: Driver) -> None:
    script = "DECLARE n INT64 DEFAULT 3; SELECT 'first'; SELECT n + 1 AS n;"
    assert await rows(emulated, script, execution="script") == [["4"]]


async def test_ddl_fails_a_task_that_declares_an_output(emulated: Driver) -> None:
    task = emulated.task("CREATE SCHEMA ddl", CUSTOM, outputs=RESULTS, execution="ddl")
    status = await ended(emulated, await emulated.create(task))
    assert status.phase is Phase.FAILED
    assert status.message is not None
    assert "leaves no result table" in status.message


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("SELEC 1", "invalidQuery"),
        ("SELECT * FROM nowhere.t", "notFound"),
        ("SELECT ERROR('on purpose')", "invalidQuery"),
    ],
)
async def test_a_statement_that_fails_says_why(
    emulated: Driver, statement: str, reason: str
) -> None:
    task = emulated.task(statement, CUSTOM, execution=f"bad-{reason}-{len(statement)}")
    status = await ended(emulated, await emulated.create(task))
    assert (status.phase, status.code) == (Phase.FAILED, reason)
    assert status.message


async def test_a_running_query_is_stopped(emulated: Driver) -> None:
    task = emulated.task(ENDLESS, CUSTOM, execution="endless")
    job = await emulated.create(task)
    assert (await emulated.get(job)).phase is Phase.RUNNING
    end = time.monotonic() + 60
    status = None
    # The emulator interrupts its engine: one that has not begun the query yet runs it all the same.
    while status is None or not (status.phase and status.phase.terminal):
        assert time.monotonic() < end, "it was not stopped"
        await emulated.cancel(job)
        status = await emulated.get(job)
    assert status.phase is Phase.ABORTED
    await emulated.cancel(job)


async def test_a_dry_run_finds_a_mistake_and_runs_nothing(emulated: Driver) -> None:
    dry = {**CUSTOM, "dryRun": True}
    job = await emulated.create(emulated.task("SELECT 1", dry, execution="dry"))
    assert (await emulated.get(job)).phase is Phase.SUCCEEDED
    with pytest.raises(InvalidTask):
        await emulated.create(emulated.task("SELEC 1", dry, execution="dry-bad"))


async def test_the_credentials_check_reaches_the_emulator(emulated: Driver, url: str) -> None:
    assert url in await emulated.env.check()


def test_every_field_that_polls_ask_for_is_in_googles_own_description() -> None:
    from tests.bigquery.partial import Mask, parse

    need_emulator()
    [path] = ENVIRONMENT.glob("lib/*/site-packages/local_bigquery/discovery.json")
    schemas = json.loads(path.read_text())["schemas"]

    def walk(mask: Mask, schema: Mapping[str, Any]) -> None:
        for name, part in mask.items():
            described = schema["properties"][name]
            if part:
                inner = described.get("items") or described
                walk(part, schemas[inner["$ref"]] if "$ref" in inner else inner)

    walk(parse(POLLED), schemas["Job"])
    walk(parse("jobReference,configuration(labels)"), schemas["Job"])
    walk(parse(LISTED), schemas["JobList"])


def test_the_example_runs(url: str) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "flyteagents", "run", "examples/bigquery.yaml", "--json"]
    env = {
        **os.environ,
        "BIGQUERY_EMULATOR_HOST": url,
        "GOOGLE_CLOUD_PROJECT": "local",
        "FLYTEAGENTS_PLUGINS": "bigquery",
    }
    done = subprocess.run(
        command, cwd=root, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["phase"] == "SUCCEEDED"
    assert told["outputs"]["results"]["uri"].startswith("bq://local:")
