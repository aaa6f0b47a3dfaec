"""Object stores by fsspec, with a file system that is a folder and calls itself s3."""

from __future__ import annotations

import functools
import os
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.duckdb.driving import SALES, TABLE, Driver

import duckdb
from flyteagents import Blob, Identity, Kind, Phase, Status, StructuredDataset, Type

pytest.importorskip("fsspec")

OPS = Identity(project="ops", domain="development")
TOTAL = {"total": Type(Kind.INTEGER)}
SHARD = "s3://lake/ju/flyte/sales/development/run/n0/0"

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
    monkeypatch.setenv("PYTHONPATH", str(package), prepend=os.pathsep)
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


async def make(driver: Driver, value: int, prefix: str, identity: Identity = SALES) -> str:
    """A result in the store; its URI."""
    status = await driver.run(
        f"SELECT {value} AS a", declared=TABLE, output_prefix=prefix, identity=identity
    )
    table = (status.outputs or {})["results"]
    assert isinstance(table, StructuredDataset)
    return table.uri


async def total_of(driver: Driver, uri: str, identity: Identity, prefix: str = SHARD) -> Status:
    return await driver.run(
        "SELECT sum(a) AS total FROM t",
        inputs={"t": StructuredDataset(uri)},
        declared=TOTAL,
        output_prefix=prefix,
        identity=identity,
    )


def refused(status: Status) -> bool:
    return status.phase is Phase.FAILED and "not one of this project's" in (status.message or "")


@pytest.mark.parametrize("prefixes", [(), ("s3://lake",)])
async def test_what_a_job_wrote_to_a_store_is_its_project_s_and_domain_s(
    data_dir: Path, tmp_path: Path, bucket: Path, prefixes: tuple[str, ...]
) -> None:
    # Flyte 2's prefixes begin with a shard, so that no prefix of an operator's tells tenants apart.
    async with Driver(data_dir, input_prefixes=prefixes) as driver:
        uri = await make(driver, 42, SHARD)
        for each in (uri, f"{uri}/", f"{uri}/00000.parquet"):
            mine = await total_of(driver, each, SALES, "s3://lake/xy/flyte/sales/development/r/1")
            assert mine.outputs == {"total": 42}, mine
            assert refused(await total_of(driver, each, OPS)), each
        assert refused(await total_of(driver, uri, Identity(project="sales", domain="production")))
        # The folders above have more than one tenant's results.
        for above in (SHARD, "s3://lake"):
            assert refused(await total_of(driver, above, OPS)), above
    # Of another server with another data directory, since the record is in the store.
    async with Driver(tmp_path / "other", input_prefixes=prefixes) as other:
        assert (await total_of(other, uri, SALES)).outputs == {"total": 42}
        assert refused(await total_of(other, uri, OPS))


async def test_records_are_looked_for_only_in_the_bucket_that_results_go_to(
    driver: Driver, bucket: Path
) -> None:
    uri = await make(driver, 1, SHARD)
    for prefix in ("", "/nowhere/0", "s3://lake2/0", "gs://lake/0"):
        assert refused(await total_of(driver, uri, SALES, prefix)), prefix


async def test_no_spelling_leads_out_of_what_is_open_on_a_web_server(
    tmp_path: Path,
) -> None:
    for project in ("sales", "ops"):
        (tmp_path / "web" / project).mkdir(parents=True)
        (tmp_path / "web" / project / "x.csv").write_text("a\n1\n")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        settings = {"input_prefixes": (f"{url}/{{project}}",)}
        async with Driver(tmp_path / "data", **settings) as driver:
            sql, declared = "SELECT sum(a) AS total FROM t", TOTAL
            inputs = {"t": StructuredDataset(f"{url}/sales/x.csv")}
            mine = await driver.run(sql, inputs=inputs, declared=declared)
            inputs = {"t": StructuredDataset(f"{url}/sales/%2e%2e/ops/x.csv")}
            theirs = await driver.run(sql, inputs=inputs, declared=declared)
        server.shutdown()
    assert mine.outputs == {"total": 1}, mine
    assert (theirs.phase, theirs.outputs) == (Phase.FAILED, None)


async def test_what_is_not_open_does_not_show_whether_it_exists(
    driver: Driver, bucket: Path
) -> None:
    (bucket / "private").mkdir()
    (bucket / "private" / "x.csv").write_text("a\n1\n")
    for uri in ("s3://lake/private/x.csv", "s3://lake/private/y.csv", "s3://lake/private"):
        assert refused(await total_of(driver, uri, SALES)), uri


async def test_files_that_no_job_wrote_are_read_beside_results_where_they_are_open(
    data_dir: Path, bucket: Path
) -> None:
    async with Driver(data_dir, input_prefixes=("s3://lake",)) as driver:
        await make(driver, 10, SHARD)
        for name in ("part[1].csv", "part*.csv"):
            (bucket / "ju" / name).write_text("a\n1\n")
        (bucket / "ju" / "part1.csv").write_text("a\n100\n")
        for name in ("part[1].csv", "part*.csv"):
            status = await driver.run(
                "SELECT sum(a) AS total FROM t",
                inputs={"t": Blob(f"s3://lake/ju/{name}")},
                declared=TOTAL,
            )
            assert status.outputs == {"total": 1}, status


async def test_a_result_in_a_store_overwrites_nothing(driver: Driver, bucket: Path) -> None:
    uris = [await make(driver, number, SHARD, who) for number, who in ((1, SALES), (2, OPS))]
    assert len(set(uris)) == 2
    assert (await total_of(driver, uris[0], SALES)).outputs == {"total": 1}
    assert (await total_of(driver, uris[1], OPS)).outputs == {"total": 2}
    assert refused(await total_of(driver, uris[1], SALES))


async def test_folders_in_a_store_are_partitions_where_the_task_asks_for_them(
    data_dir: Path, bucket: Path
) -> None:
    for year in (2020, 2021):
        folder = bucket / "env=prod" / "t" / f"year={year}"
        folder.mkdir(parents=True)
        (folder / "x.csv").write_text("a\n1\n")
    async with Driver(data_dir, input_prefixes=("s3://lake",)) as driver:
        task = {"inputs": {"t": StructuredDataset("s3://lake/env=prod/t", format="csv")}}
        columns = {"statement": "SELECT sum(year) AS total FROM t", "declared": TOTAL}
        asked = await driver.run(**task, **columns, config={"partitioned": "t"})  # type: ignore[arg-type] # by name
        assert asked.outputs == {"total": 4041}, asked
        plain = await driver.run(**task, **columns)  # type: ignore[arg-type] # by name
        assert "year" in (plain.message or "")
