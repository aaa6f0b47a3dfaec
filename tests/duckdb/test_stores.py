"""Object stores by fsspec, with a file system that is a folder and calls itself s3."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.duckdb.driving import TABLE, Driver

import duckdb
from flyteagents import Blob, Kind, Phase, StructuredDataset, Type

pytest.importorskip("fsspec")

FOLDER_AS_S3 = """
import os
from fsspec.implementations.local import LocalFileSystem

class FolderAsS3(LocalFileSystem):
    protocol = "s3"

    @classmethod
    def _strip_protocol(cls, path):
        path = str(path)
        if path.startswith("s3://"):
            path = os.path.join(os.environ["AWS_FOLDER"], path[5:])
        return LocalFileSystem._strip_protocol(path)
"""


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bucket `lake`, and a package that jobs' processes find."""
    package = tmp_path / "package"
    (package / "folder_as_s3-1.0.dist-info").mkdir(parents=True)
    (package / "folder_as_s3.py").write_text(FOLDER_AS_S3)
    (package / "folder_as_s3-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: folder-as-s3\nVersion: 1.0\n"
    )
    (package / "folder_as_s3-1.0.dist-info" / "entry_points.txt").write_text(
        "[fsspec.specs]\ns3 = folder_as_s3:FolderAsS3\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(package))
    monkeypatch.setenv("AWS_FOLDER", str(tmp_path / "store"))
    (tmp_path / "store" / "lake").mkdir(parents=True)
    return tmp_path / "store" / "lake"


async def test_a_result_goes_under_an_output_prefix_in_a_store(
    driver: Driver, bucket: Path
) -> None:
    status = await driver.run(
        "SELECT 1 AS a", declared=TABLE, output_prefix="s3://lake/meta/e1/n0/data/0"
    )
    assert status.phase is Phase.SUCCEEDED, status
    table = (status.outputs or {})["results"]
    assert isinstance(table, StructuredDataset)
    assert table.uri == "s3://lake/meta/e1/n0/data/0/results"
    file = bucket / "meta" / "e1" / "n0" / "data" / "0" / "results" / "00000.parquet"
    with duckdb.connect() as connection:
        assert connection.execute(f"FROM read_parquet('{file}')").fetchall() == [(1,)]


async def test_inputs_come_from_a_store_where_the_operator_opened_it(
    data_dir: Path, bucket: Path
) -> None:
    for project in ("sales", "ops"):
        (bucket / project / "table").mkdir(parents=True)
        for number in (1, 2):
            (bucket / project / "table" / f"{number}.csv").write_text(f"a\n{number}\n")
    async with Driver(data_dir, input_prefixes=("s3://lake/{project}",)) as driver:
        total = {"total": Type(Kind.INTEGER)}
        sql = "SELECT sum(a) AS total FROM t"
        for uri, found in (("table", 3), ("table/1.csv", 1)):
            status = await driver.run(
                sql, inputs={"t": Blob(f"s3://lake/sales/{uri}")}, declared=total
            )
            assert status.outputs == {"total": found}, status
        for uri in ("ops/table", "sales-2/x", "sales/../ops/table"):
            status = await driver.run(sql, inputs={"t": Blob(f"s3://lake/{uri}")}, declared=total)
            assert status.phase is Phase.FAILED, status
        gone = await driver.run(sql, inputs={"t": Blob("s3://lake/sales/gone")}, declared=total)
        assert "there is nothing at" in (gone.message or "")
