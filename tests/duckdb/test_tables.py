"""Declared inputs as tables."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from tests.duckdb.driving import Driver

import duckdb
from flyteagents import Blob, Kind, Phase, Schema, StructuredDataset, Type

TOTAL = {"total": Type(Kind.INTEGER)}


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Files of all kinds, each with a column `a` that adds up to 3."""
    rows = "SELECT * FROM (VALUES (1), (2)) t(a)"
    for year, value in ((2020, 1), (2021, 2)):
        folder = tmp_path / "hive" / f"year={year}"
        folder.mkdir(parents=True)
        duckdb.sql(f"COPY (SELECT {value} AS a) TO '{folder}/x.parquet' (FORMAT parquet)")
    (tmp_path / "hive" / "_SUCCESS").touch()
    for name in ("t.parquet", "part-0"):
        duckdb.sql(f"COPY ({rows}) TO '{tmp_path / name}' (FORMAT parquet)")
    (tmp_path / "t.csv").write_text("a,b\n1,x\n2,NA\n")
    (tmp_path / "t.tsv").write_text("a\tb\n1\tx\n2\ty\n")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n1,x\n2,y\n"))
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    (tmp_path / "t.json").write_text('[{"a": 1}, {"a": 2}]')
    (tmp_path / "it's a file.csv").write_text("a\n3\n")
    (tmp_path / "t.bin").write_text("?")
    return tmp_path


async def test_every_kind_of_file_is_a_table_of_its_input_s_name(
    driver: Driver, shelf: Path
) -> None:
    inputs = {
        "parquet": StructuredDataset(f"{shelf}/t.parquet", format="parquet"),
        "folder": StructuredDataset(f"file://{shelf}/hive"),
        "old": Schema(f"{shelf}/part-0"),
        "csv": Blob(f"{shelf}/t.csv", "csv"),
        "tsv": Blob(f"{shelf}/t.tsv"),
        "packed": Blob(f"{shelf}/t.csv.gz"),
        "lines": Blob(f"{shelf}/t.jsonl"),
        "json": Blob(f"{shelf}/t.json", "json"),
        "quoted": Blob(f"{shelf}/it's a file.csv"),
        "several": [Blob(f"{shelf}/t.csv", "csv"), Blob(f"{shelf}/it's a file.csv", "csv")],
    }
    parts = [f'SELECT sum(a) AS s FROM "{name}"' for name in inputs]
    status = await driver.run(
        f"SELECT sum(s) AS total FROM ({' UNION ALL '.join(parts)})",
        inputs=inputs,
        declared=TOTAL,
    )
    assert status.outputs == {"total": 3 * len(inputs) + 3}, status


async def test_a_task_may_name_its_csv_files_word_for_null(driver: Driver, shelf: Path) -> None:
    task = {"inputs": {"t": Blob(f"{shelf}/t.csv")}, "declared": TOTAL}
    sql = "SELECT count(b) AS total FROM t"
    plain = await driver.run(sql, **task)
    aware = await driver.run(sql, **task, config={"csv_null": "NA"})
    assert (plain.outputs, aware.outputs) == ({"total": 2}, {"total": 1})


@pytest.mark.parametrize(
    ("uri", "sql", "said"),
    [
        ("{shelf}/gone.csv", "FROM t", "there is no file at"),
        ("{shelf}/t.bin", "FROM t", "must say parquet, csv or json"),
        ("{shelf}/t.csv", "SELECT $t", "input 't' is a table: write FROM t, not $t"),
        ("ftp://host/t.csv", "FROM t", "neither a path nor a URL of a known store"),
        ("s3://bucket/t.csv", "FROM t", "FLYTEAGENTS_DUCKDB_INPUT_PREFIXES"),
    ],
)
async def test_a_table_that_cannot_be_says_why(
    driver: Driver, shelf: Path, uri: str, sql: str, said: str
) -> None:
    status = await driver.run(sql, inputs={"t": Blob(uri.format(shelf=shelf))})
    assert status.phase is Phase.FAILED
    assert said in (status.message or ""), status
