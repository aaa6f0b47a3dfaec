"""Parameters, results and outputs."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from tests.duckdb.driving import TABLE, Driver

import duckdb
from flyteagents import (
    Blob,
    Column,
    InvalidTask,
    Kind,
    LogLine,
    Phase,
    Schema,
    StructuredDataset,
    Type,
)
from flyteagents_duckdb.logs import BEFORE, read_page
from flyteagents_duckdb_job.directory import JobDirectory


def kind(name: str) -> Type:
    return Type(Kind(name))


def rows_of(directory: str) -> list[tuple[object, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(f"FROM read_parquet('{directory}/*.parquet')").fetchall()


async def test_a_result_is_parquet_under_the_output_prefix(driver: Driver, tmp_path: Path) -> None:
    prefix = tmp_path / "flyte" / "n0" / "data" / "0"
    status = await driver.run(
        "SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, NULL ORDER BY 1",
        declared=TABLE,
        output_prefix=str(prefix),
    )
    assert status.phase is Phase.SUCCEEDED, status
    assert status.outputs is not None
    table = status.outputs["results"]
    assert table == StructuredDataset(
        str(prefix / "results"),
        (Column("a", kind("integer")), Column("b", kind("string"))),
        "parquet",
    )
    assert rows_of(str(prefix / "results")) == [(1, "x"), (2, None)]
    assert {path.name for path in prefix.iterdir()} == {"results", ".results.flyteagents.json"}
    assert status.statistics["rows"] == 2
    assert status.info["progress"] == 1.0
    assert status.info["bytes"] == (prefix / "results" / "00000.parquet").stat().st_size
    assert status.started is not None
    assert status.ended is not None
    assert status.started <= status.ended


@pytest.mark.parametrize("prefix", ["", "s3://bucket/x", "/proc/flyteagents/n0/data/0"])
async def test_a_result_that_cannot_go_to_the_output_prefix_goes_to_the_data_directory(
    driver: Driver, data_dir: Path, prefix: str
) -> None:
    status = await driver.run("SELECT 7 AS n", declared=TABLE, output_prefix=prefix)
    assert status.outputs is not None
    table = status.outputs["results"]
    assert isinstance(table, StructuredDataset)
    assert table.uri.startswith(str(data_dir / "results" / "sales" / "development"))
    assert rows_of(table.uri) == [(7,)]


async def test_two_results_under_one_prefix_do_not_overwrite_each_other(
    driver: Driver, tmp_path: Path
) -> None:
    uris = []
    for number in (1, 2):
        status = await driver.run(
            f"SELECT {number} AS n", declared=TABLE, output_prefix=str(tmp_path / "p")
        )
        assert status.outputs is not None
        table = status.outputs["results"]
        assert isinstance(table, StructuredDataset)
        uris.append(table.uri)
    assert [rows_of(uri) for uri in uris] == [[(1,)], [(2,)]]


async def test_a_table_may_be_declared_as_a_schema_or_a_file(driver: Driver) -> None:
    sql = "SELECT 1 AS a, [1] AS b"
    schema = await driver.run(sql, declared={"t": Type(Kind.SCHEMA)})
    file = await driver.run(sql, declared={"f": Type(Kind.BLOB)})
    folder = await driver.run(sql, declared={"d": Type(Kind.BLOB, multipart=True)})
    optional = await driver.run(
        sql, declared={"o": Type(Kind.UNION, (Type(Kind.STRUCTURED_DATASET), Type(Kind.NONE)))}
    )
    assert schema.outputs is not None
    table = schema.outputs["t"]
    assert isinstance(table, Schema)
    assert table.columns == (Column("a", kind("integer")),)
    assert file.outputs is not None
    blob = file.outputs["f"]
    assert isinstance(blob, Blob)
    assert blob.uri.endswith("/00000.parquet")
    assert rows_of(blob.uri.rpartition("/")[0]) == [(1, [1])]
    assert folder.outputs is not None
    directory = folder.outputs["d"]
    assert isinstance(directory, Blob)
    assert rows_of(directory.uri) == [(1, [1])]
    assert optional.outputs is not None
    assert isinstance(optional.outputs["o"], StructuredDataset)


async def test_scalar_outputs_come_from_the_columns_of_the_single_row(driver: Driver) -> None:
    status = await driver.run(
        """
        SELECT sum(i) AS total, avg(i) AS mean, 2.0::DOUBLE AS whole, 1.25::DECIMAL(5, 2) AS price,
               'x' AS "Text", true AS yes, TIMESTAMPTZ '2020-01-01 00:00:00+01' AS at,
               [TIMESTAMPTZ '2020-01-01 00:00:00+01'] AS times, INTERVAL 90 SECOND AS took,
               [1, 2] AS list, '{"a": [1]}'::JSON AS tree, NULL AS nothing, 'nan'::DOUBLE AS nan
        FROM range(4) t(i)
        """,
        declared={
            "total": kind("integer"),
            "mean": kind("float"),
            "whole": kind("integer"),
            "price": kind("float"),
            "text": kind("string"),
            "yes": kind("boolean"),
            "at": kind("datetime"),
            "times": kind("collection"),
            "took": kind("duration"),
            "list": kind("collection"),
            "tree": kind("struct"),
            "nothing": kind("none"),
            "nan": kind("float"),
        },
    )
    assert status.outputs is not None, status
    outputs = dict(status.outputs)
    nan = outputs.pop("nan")
    assert isinstance(nan, float)
    assert math.isnan(nan)
    at = datetime(2019, 12, 31, 23)  # noqa: DTZ001 # Flyte takes it for UTC
    assert outputs == {
        "total": 6,
        "mean": 1.5,
        "whole": 2,
        "price": 1.25,
        "text": "x",
        "yes": True,
        "at": at,
        "times": [at],
        "took": timedelta(seconds=90),
        "list": [1, 2],
        "tree": {"a": [1]},
        "nothing": None,
    }
    assert isinstance(outputs["whole"], int)


async def test_a_single_column_serves_a_single_scalar_output_of_any_name(driver: Driver) -> None:
    status = await driver.run("SELECT count(*) FROM range(5)", declared={"o0": kind("integer")})
    assert status.outputs == {"o0": 5}


async def test_table_and_scalars_come_from_the_same_row(driver: Driver) -> None:
    status = await driver.run("SELECT 5 AS n, 'x' AS s", declared={**TABLE, "n": kind("integer")})
    assert status.outputs is not None
    assert status.outputs["n"] == 5
    table = status.outputs["results"]
    assert isinstance(table, StructuredDataset)
    assert rows_of(table.uri) == [(5, "x")]


@pytest.mark.parametrize(
    ("sql", "output", "said"),
    [
        ("SELECT i FROM range(3) t(i)", "i", "returned 3 rows"),
        ("SELECT 1 AS i WHERE false", "i", "returned 0 rows"),
        ("SELECT 1 AS a, 2 AS b", "c", "no column for the output 'c'"),
        ("CREATE TABLE x (i INTEGER)", "c", "returns no rows"),
    ],
)
async def test_scalars_that_do_not_match_fail_the_job_and_say_why(
    driver: Driver, sql: str, output: str, said: str
) -> None:
    status = await driver.run(sql, declared={output: kind("integer")})
    assert status.phase is Phase.FAILED
    assert said in (status.message or "")


async def test_declared_columns_must_be_there(driver: Driver) -> None:
    declared = Type(Kind.STRUCTURED_DATASET, columns=(Column("gone", kind("integer")),))
    status = await driver.run("SELECT 1 AS a", declared={"results": declared})
    assert status.phase is Phase.FAILED
    assert "gone" in (status.message or "")


async def test_a_task_that_declares_nothing_runs_and_writes_nothing(
    driver: Driver, tmp_path: Path
) -> None:
    status = await driver.run("SELECT 1", output_prefix=str(tmp_path / "out"))
    assert status.phase is Phase.SUCCEEDED
    assert status.statistics["rows"] == 1
    assert not status.outputs
    assert not (tmp_path / "out").exists()


async def test_parameters_of_every_type_are_bound_by_name(driver: Driver) -> None:
    at = datetime(2020, 2, 29, 12, 30, 15, 250, tzinfo=timezone.utc)
    inputs = {
        "i": 3,
        "big": 2**40,
        "f": 1.5,
        "s": "it's",
        "b": False,
        "at": at,
        "d": timedelta(days=1, microseconds=5),
        "n": None,
        "l": [1, 2],
        "e": [],
        "ls": ["a", None],
        "m": {"k": 1},
        "tree": {"a": {"b": [1, "x"]}},
        "unused": "u",
    }
    integers = Type(Kind.COLLECTION, (kind("integer"),))
    status = await driver.run(
        """
        SELECT $i AS i, $big AS big, $f AS f, $s AS s, $b AS b, $at AS at, $d AS d, $n AS n,
               $l[2] AS l, len($e) AS e, $ls[1] AS ls, $m['k'] AS m, $tree->'a'->'b'->>1 AS tree
        """,
        inputs=inputs,
        interface={
            **{name: kind("integer") for name in ("i", "big")},
            "f": kind("float"),
            "l": integers,
            "e": integers,
            "m": Type(Kind.MAP, (kind("integer"),)),
            "tree": kind("struct"),
        },
        declared={
            **{name: kind("integer") for name in ("i", "big", "l", "e", "m")},
            "f": kind("float"),
            **{name: kind("string") for name in ("s", "n", "ls", "tree")},
            "b": kind("boolean"),
            "at": kind("datetime"),
            "d": kind("duration"),
        },
    )
    assert status.outputs == {
        "i": 3,
        "big": 2**40,
        "f": 1.5,
        "s": "it's",
        "b": False,
        "at": at.replace(tzinfo=None),
        "d": timedelta(days=1, microseconds=5),
        "n": None,
        "l": 2,
        "e": 0,
        "ls": "a",
        "m": 1,
        "tree": "x",
    }


async def test_a_parameter_without_an_input_is_named(driver: Driver) -> None:
    status = await driver.run("SELECT $a + $b", inputs={"a": 1})
    assert status.phase is Phase.FAILED
    assert status.message == "there is no input for the parameter $b; there are: $a"


async def test_earlier_statements_may_make_tables_for_the_last_one(driver: Driver) -> None:
    status = await driver.run(
        """
        CREATE TEMP TABLE t AS SELECT range AS i FROM range($n); -- with a comment
        INSERT INTO t VALUES (100);
        CREATE TEMP MACRO twice(x) AS 2 * x;
        PIVOT (SELECT 'total' AS name, twice(sum(i)) AS v FROM t) ON name IN ('total') USING sum(v);
        """,
        inputs={"n": 3},
        declared={"total": kind("integer")},
    )
    assert status.outputs == {"total": 206}, status


async def test_a_pivot_finds_its_columns_itself(driver: Driver) -> None:
    status = await driver.run(
        "PIVOT (SELECT 'total' AS name, 3 AS v) ON name USING sum(v)",
        declared={"total": kind("integer")},
    )
    if int(duckdb.__version__.partition(".")[0]) >= 2:
        assert status.outputs == {"total": 3}, status
    else:
        assert "ON column IN" in (status.message or ""), status


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT ';é' AS a -- the end",
        "SELECT ';é' AS a ; -- the end; or not",
        "SELECT 1 AS b; /* ; */ SELECT ';é' AS a /* c */ ;; -- x",
    ],
)
async def test_comments_and_semicolons_do_not_hide_what_follows(driver: Driver, sql: str) -> None:
    status = await driver.run(sql, declared={**TABLE, "a": kind("string")})
    assert status.phase is Phase.SUCCEEDED, status
    assert (status.outputs or {})["a"] == ";é"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"statement": "  "}, "no SQL statement"),
        ({"config": {"threads": "999"}}, "FLYTEAGENTS_DUCKDB_MAX_THREADS"),
        ({"config": {"memory_limit": "1TB"}}, "FLYTEAGENTS_DUCKDB_MAX_MEMORY"),
        ({"declared": {"a": Type(Kind.SCHEMA), "b": Type(Kind.BLOB)}}, "declares a, b"),
        ({"declared": {"a": Type(Kind.STRUCTURED_DATASET, format="csv")}}, "results are Parquet"),
    ],
)
async def test_what_can_never_work_is_refused_before_a_job_is_made(
    driver: Driver, fields: dict[str, object], said: str
) -> None:
    task = driver.task(**{"statement": "SELECT 1", **fields})  # type: ignore[arg-type] # by case
    with pytest.raises(InvalidTask, match=said):
        await driver.create(task)
    assert not list((driver.agent.data.root / "jobs").iterdir())


async def test_threads_and_memory_come_from_the_config_as_text_or_number(driver: Driver) -> None:
    for config in ({"threads": "1", "memory": "120MiB"}, {"threads": 1, "memory": 120 << 20}):
        status = await driver.run(
            "SELECT current_setting('threads') AS t, current_setting('memory_limit') AS m",
            config=config,
            declared={"t": kind("integer"), "m": kind("string")},
        )
        assert status.outputs == {"t": 1, "m": "120.0 MiB"}


async def test_the_log_tells_the_job_s_story_and_pages_through(driver: Driver) -> None:
    task = driver.task("SELECT 1 AS a", declared=TABLE)
    job = await driver.create(task)
    await driver.until(job, lambda status: status.phase is Phase.SUCCEEDED, TABLE)
    whole = await driver.log(job)
    assert any(line.startswith("1 row, ") for line in whole)
    assert whole[-1].startswith("succeeded after")
    one_by_one: list[LogLine] = []
    token = ""
    while True:
        page = await driver.agent.logs(job, driver.call("logs"), token, 1)
        one_by_one += page.lines
        if not page.next:
            break
        token = page.next
    assert [line.message for line in one_by_one] == whole
    assert all(line.timestamp and line.system for line in one_by_one)


@pytest.mark.parametrize("ahead", [0, 2 * BEFORE])
def test_a_page_of_the_log_that_lies_within_a_private_key_is_masked(
    tmp_path: Path, ahead: int
) -> None:
    key = ["-----BEGIN PRIVATE KEY-----", "MIIEvQIBADANBgkqhkiG9w0BAQ", "-----END PRIVATE KEY-----"]
    said = [*["x" * 99] * (ahead // 100), "2026-01-02T03:04:05+00:00 failed:", *key, "LINE 1"]
    (tmp_path / "job.log").write_text("".join(f"{line}\n" for line in said))
    (tmp_path / "ended.json").write_text("{}")
    read: list[str] = []
    token = "0"
    while token:
        found = read_page(JobDirectory(tmp_path), int(token), 1)
        read += [line.message for line in found.lines]
        token = found.next
    assert read[-5:] == ["failed:", *["[redacted]"] * 3, "LINE 1"]
    assert len(read) == len(said)
