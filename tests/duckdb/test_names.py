"""Names of files and folders are names: no patterns, and no columns that nobody asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.duckdb.driving import TABLE, Driver

import duckdb
from flyteagents import Blob, Column, InvalidTask, Kind, Phase, Status, StructuredDataset, Type
from flyteagents._cli.outcome import _show_rows
from flyteagents_duckdb_job.views import quoted

X = {"x": Type(Kind.INTEGER)}


def make(path: Path, sql: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".csv": "csv", ".json": "json"}.get(path.suffix, "parquet")
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY ({sql}) TO {quoted(str(path))} (FORMAT {kind}, USE_TMP_FILE false)"
        )
    return path


def columns_of(status: Status) -> list[str]:
    assert status.outputs is not None, status
    table = status.outputs["results"]
    assert isinstance(table, StructuredDataset)
    file = Path(table.uri, "00000.parquet")
    link = file.parent.parent / f"plain-{os.urandom(4).hex()}.parquet"
    link.symlink_to(file)
    with duckdb.connect() as connection:
        described = connection.execute(
            f"FROM read_parquet('{link}', hive_partitioning = false) LIMIT 0"
        ).description
    assert described is not None
    names = [name for name, *_ in described]
    assert names == [column.name for column in table.columns]
    return names


@pytest.mark.parametrize("ending", ["parquet", "csv", "json"])
@pytest.mark.parametrize(
    ("named", "beside"),
    [("part[1]", "part1"), ("part*", "part2"), ("part?", "part3"), ("part[[]4]", "part[4]")],
)
async def test_a_file_is_the_one_of_its_name_and_no_other(
    driver: Driver, tmp_path: Path, named: str, beside: str, ending: str
) -> None:
    mine = make(tmp_path / f"{named}.{ending}", "SELECT 1 AS x")
    make(tmp_path / f"{beside}.{ending}", "SELECT 2 AS x")
    status = await driver.run("FROM t", inputs={"t": Blob(str(mine))}, declared=X)
    assert status.outputs == {"x": 1}, status


@pytest.mark.parametrize("folder", ["day[1]", "day*", "day?", "o'clock", "a\\b", "ä b%20"])
async def test_a_folder_is_the_one_of_its_name_and_no_other(
    driver: Driver, tmp_path: Path, folder: str
) -> None:
    mine = make(tmp_path / folder / "x.parquet", "SELECT 1 AS x").parent
    make(tmp_path / folder / "deep[er]" / "*.parquet", "SELECT 1 AS x")
    make(tmp_path / "day1" / "x.parquet", "SELECT 50 AS x")
    status = await driver.run(
        "SELECT sum(x) AS x FROM t", inputs={"t": StructuredDataset(str(mine))}, declared=X
    )
    assert status.outputs == {"x": 2}, status


async def test_a_result_is_read_back_under_a_prefix_with_any_letters(
    driver: Driver, tmp_path: Path
) -> None:
    for prefix in ("n[0]", "n0", "env=prod", "a*"):
        status = await driver.run(
            f"SELECT '{prefix}' AS p", declared=TABLE, output_prefix=str(tmp_path / prefix)
        )
        assert columns_of(status) == ["p"]
        assert status.outputs is not None
        again = await driver.run(
            "FROM t",
            inputs={"t": status.outputs["results"]},
            declared={"p": Type(Kind.STRING)},
        )
        assert again.outputs == {"p": prefix}, again


async def test_an_error_calls_a_file_by_its_own_name(driver: Driver, tmp_path: Path) -> None:
    broken = tmp_path / "part[1].parquet"
    broken.write_text("this is no Parquet")
    status = await driver.run("FROM t", inputs={"t": Blob(str(broken))})
    assert status.phase is Phase.FAILED
    assert str(broken) in (status.message or ""), status
    assert "inputs/0/" not in (status.message or "")


@pytest.mark.parametrize("ending", ["parquet", "csv", "json"])
async def test_a_folder_s_name_makes_no_column_and_replaces_none(
    driver: Driver, tmp_path: Path, ending: str
) -> None:
    file = make(tmp_path / "env=prod" / f"t.{ending}", "SELECT 'file' AS env, 1 AS x")
    for uri in (file, file.parent):
        status = await driver.run(
            "FROM t",
            inputs={"t": StructuredDataset(str(uri), format=ending)},
            declared={"env": Type(Kind.STRING), "x": Type(Kind.INTEGER), **TABLE},
            output_prefix=str(tmp_path / "year=2020" / "0"),
        )
        assert columns_of(status) == ["env", "x"]
        assert status.outputs is not None
        assert status.outputs["env"] == "file"


async def test_partitions_are_columns_where_the_task_asks_for_them(
    driver: Driver, tmp_path: Path
) -> None:
    root = tmp_path / "env=prod" / "table"
    for year, month in ((2020, "a[1]"), (2021, "b*")):
        make(root / f"year={year}" / f"month={month}" / "x.parquet", f"SELECT {year} AS x")
    (root / "_SUCCESS").touch()
    inputs = {"t": StructuredDataset(str(root)), "plain": StructuredDataset(str(root))}
    for asked in (["t"], "t", "t,"):
        status = await driver.run(
            "SELECT t.* FROM t, plain WHERE plain.x = t.x AND t.year = 2021",
            inputs=inputs,
            config={"partitioned": asked},
            declared={"x": Type(Kind.INTEGER), "month": Type(Kind.STRING), **TABLE},
        )
        assert columns_of(status) == ["x", "month", "year"]
        assert status.outputs is not None
        assert (status.outputs["x"], status.outputs["month"]) == (2021, "b*")
    without = await driver.run("SELECT year FROM t", inputs=inputs)
    assert 'column "year" not found' in (without.message or "")


async def test_partitions_of_what_is_no_table_are_refused(driver: Driver) -> None:
    with pytest.raises(InvalidTask, match="names 'u', which is no table"):
        await driver.create(driver.task("SELECT 1", config={"partitioned": "u"}))


async def test_the_data_directory_s_own_folders_are_no_partitions(
    tmp_path: Path,
) -> None:
    file = make(tmp_path / "t" / "year=2020" / "x.parquet", "SELECT 1 AS x")
    async with Driver(tmp_path / "env=prod" / "data") as driver:
        task = {"inputs": {"t": StructuredDataset(str(file.parent.parent))}, "declared": X}
        plain = await driver.run("SELECT * FROM t", **task)
        assert plain.outputs == {"x": 1}, plain
        asked = await driver.run("SELECT x FROM t", **task, config={"partitioned": "t"})
        assert "FLYTEAGENTS_DUCKDB_DATA_DIR must name another one" in (asked.message or "")


async def test_a_data_directory_that_reads_as_a_pattern_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="for a pattern"):
        Driver(tmp_path / "d[1]")


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    (tmp_path / "codes.csv").write_text("code;n;day\n007;1;03/04/2020\n012;2;05/04/2020\n")
    (tmp_path / "latin.csv").write_bytes("city\nKöln\n".encode("latin-1"))
    (tmp_path / "other.csv").write_text("n\n5\n")
    return tmp_path


async def test_a_task_sets_types_encoding_and_delimiter_of_its_csv_files(
    driver: Driver, shelf: Path
) -> None:
    inputs = {"codes": Blob(f"{shelf}/codes.csv"), "other": Blob(f"{shelf}/other.csv")}
    declared = {name: Type(Kind.STRING) for name in ("c", "t", "o")}
    sql = """
        SELECT min(code) AS c, typeof(min(codes.n)) AS t, typeof(min(other.n)) AS o
        FROM codes, other
    """
    for types in (
        {"CODE": "VARCHAR", "n": "DECIMAL(5,2)"},
        '{"code": "VARCHAR", "n": "DECIMAL(5,2)"}',
    ):
        status = await driver.run(
            sql,
            inputs=inputs,
            config={"csv_types": types, "csv_delimiter": ";"},
            declared=declared,
        )
        assert status.outputs == {"c": "007", "t": "DECIMAL(5,2)", "o": "DECIMAL(5,2)"}, status
    latin = {"inputs": {"t": Blob(f"{shelf}/latin.csv")}, "declared": {"city": Type(Kind.STRING)}}
    found = await driver.run("FROM t", **latin, config={"csv_encoding": "latin-1"})
    assert found.outputs == {"city": "Köln"}, found
    wrong = await driver.run("FROM t", **latin)
    assert "csv_encoding" in (wrong.message or "")


async def test_the_columns_that_an_input_is_declared_with_have_their_types(
    driver: Driver, shelf: Path
) -> None:
    columns = (Column("code", Type(Kind.STRING)), Column("n", Type(Kind.FLOAT)))
    table = Type(Kind.STRUCTURED_DATASET, columns=columns, format="csv")
    status = await driver.run(
        "SELECT min(code) AS c, typeof(min(n)) AS t FROM t",
        inputs={"t": StructuredDataset(f"{shelf}/codes.csv", format="csv")},
        interface={"t": table},
        declared={"c": Type(Kind.STRING), "t": Type(Kind.STRING)},
    )
    assert status.outputs == {"c": "007", "t": "DOUBLE"}, status


async def test_a_type_for_a_column_that_no_csv_file_has_is_told(
    driver: Driver, shelf: Path
) -> None:
    status = await driver.run(
        "FROM t", inputs={"t": Blob(f"{shelf}/other.csv")}, config={"csv_types": {"m": "BIGINT"}}
    )
    assert status.phase is Phase.FAILED
    assert "names the column 'm', and the columns of its CSV inputs are: n" in (
        status.message or ""
    )


async def test_csv_options_are_part_of_the_work(driver: Driver) -> None:
    tasks = [
        driver.task("SELECT 1", config=config)
        for config in ({}, {"csv_types": {"a": "INT"}}, {"csv_delimiter": ";"}, {"threads": 1})
    ]
    prints = [task.fingerprint.text for task in tasks]
    assert prints[3] == prints[0]
    assert len(set(prints)) == 3


def test_the_command_line_shows_the_rows_of_the_result_and_no_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = make(tmp_path / "env=prod" / "n[1]" / "part*.parquet", "SELECT 11 AS x").parent
    make(tmp_path / "env=prod" / "n1" / "part2.parquet", "SELECT 22 AS x")
    for uri in (mine, mine / "part*.parquet"):
        _show_rows(str(uri), 20)
        shown = capsys.readouterr().out
        assert "11" in shown
        assert "22" not in shown
        assert "env" not in shown
