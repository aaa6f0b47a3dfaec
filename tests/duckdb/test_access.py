"""A query reads its declared inputs and writes its result, and nothing else."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.duckdb.driving import SALES, TABLE, Driver

import duckdb
from flyteagents import Blob, Identity, Kind, Phase, Status, StructuredDataset, Type
from flyteagents._kernel.store_errors import PACKAGES
from flyteagents_duckdb.machine import data_directory
from flyteagents_duckdb.settings import DuckDBSettings
from flyteagents_duckdb_job.access import STORES, expand, local_path, store_url
from flyteagents_duckdb_job.queue import environment

OPS = Identity(project="ops", domain="development")
TEXT = Type(Kind.STRING)


def parquet(path: Path, sql: str = "SELECT 1 AS a") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    duckdb.sql(f"COPY ({sql}) TO '{path}' (FORMAT parquet)")
    return path


def refused(status: Status, said: str) -> bool:
    return status.phase is Phase.FAILED and said in (status.message or "")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd.csv'",
        "SELECT * FROM read_text('/proc/self/environ')",
        "SELECT * FROM read_blob('/proc/self/cmdline')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM read_csv('{work}/../job.json')",
        "SELECT * FROM read_json('{data}/jobs/*/job.json')",
        "SELECT * FROM parquet_metadata('{data}/results/x.parquet')",
        "SELECT * FROM read_parquet('http://127.0.0.1:1/x.parquet')",
        "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
        "COPY (SELECT 1) TO '/tmp/escaped.csv'",
        "COPY (SELECT 1) TO '{data}/escaped.csv'",
        "CREATE TABLE t (a TEXT); COPY t FROM '/etc/passwd'",
    ],
)
async def test_files_and_network_are_out_of_reach(driver: Driver, data_dir: Path, sql: str) -> None:
    task = driver.task("SELECT 1")
    work = driver.agent.data.job(task.key.hex).work
    status = await driver.run(sql.format(data=data_dir, work=work), key=task.key.hex, declared={})
    assert status.phase is Phase.FAILED
    assert any(said in (status.message or "") for said in ("Permission Error", "does not exist")), (
        status
    )
    assert not Path("/tmp/escaped.csv").exists()  # noqa: ASYNC240
    assert not (data_dir / "escaped.csv").exists()


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH '/tmp/x.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '100GB'",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA disable_optimizer",
        "CALL enable_logging()",
        "EXPORT DATABASE '/tmp/x'",
        "USE memory",
        "CHECKPOINT",
        "PREPARE p AS SELECT 1",
        "BEGIN",
        "VACUUM",
        "DETACH memory",
    ],
)
async def test_statements_beyond_the_job_s_own_tables_are_refused(driver: Driver, sql: str) -> None:
    status = await driver.run(f"{sql}; SELECT 1")
    assert refused(status, "statements are not allowed"), status


async def test_settings_are_locked_and_python_is_out_of_reach(driver: Driver) -> None:
    locked = await driver.run(
        "SELECT current_setting('lock_configuration') AS l, current_setting('threads') AS t",
        declared={"l": Type(Kind.BOOLEAN), "t": Type(Kind.INTEGER)},
    )
    assert locked.outputs == {"l": True, "t": min(2, os.cpu_count() or 1)}
    assert refused(await driver.run("SELECT * FROM description"), "does not exist")


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 666 AS a) TO '{file}' (FORMAT parquet, USE_TMP_FILE false)",
        "COPY (SELECT 666 AS a) TO '{link}' (FORMAT parquet, USE_TMP_FILE false)",
        "COPY (SELECT 666 AS a) TO '{folder}/../{name}' (FORMAT parquet, USE_TMP_FILE false)",
        "COPY (SELECT 666 AS a) TO ('{file}' || '') (FORMAT parquet, USE_TMP_FILE false)",
        "COPY (SELECT 666 AS a) TO /* ) */ $${file}$$ (FORMAT parquet, USE_TMP_FILE false)",
        "COPY (SELECT 'x) TO ''y' AS a) /* TO '/x' */ TO '{file}' (USE_TMP_FILE false)",
        "COPY (SELECT 666 AS a) TO '{folder}/new' "
        "(FORMAT parquet, PER_THREAD_OUTPUT, \"filename_pattern\" '../../data_')",
        "COPY (SELECT 666 AS a) TO '{folder}/new' "
        "(FORMAT parquet, PER_THREAD_OUTPUT, FILENAME_PATTERN ('../..' || '/data_'))",
    ],
)
async def test_a_declared_input_is_never_written_to(
    data_dir: Path, tmp_path: Path, sql: str
) -> None:
    # By this name, a pattern `data_` would hit it.
    file = parquet(tmp_path / "data_0.parquet")
    linked = parquet(tmp_path / "an[other].parquet")
    folder = tmp_path / "open"
    folder.mkdir()
    async with Driver(data_dir, open_prefixes=(str(folder),)) as driver:
        task = driver.task("SELECT 1")
        link = driver.agent.data.job(task.key.hex).work / "inputs" / "1" / "00000.parquet"
        before = (file.read_bytes(), linked.read_bytes())
        status = await driver.run(
            sql.format(file=file, link=link, folder=folder, name=file.name),
            key=task.key.hex,
            inputs={"t": Blob(str(file)), "u": Blob(str(linked))},
        )
        assert (file.read_bytes(), linked.read_bytes()) == before
        assert refused(status, ""), status


async def test_an_input_in_an_open_directory_may_be_written_anew(
    data_dir: Path, tmp_path: Path
) -> None:
    file = parquet(tmp_path / "open" / "x.parquet")
    async with Driver(data_dir, open_prefixes=(str(tmp_path / "open"),)) as driver:
        status = await driver.run(
            f"COPY (SELECT a + 1 AS a FROM t) TO '{file}' (FORMAT parquet); FROM t",
            inputs={"t": Blob(str(file))},
            declared={"a": Type(Kind.INTEGER)},
        )
        assert status.outputs == {"a": 2}, status


async def test_a_job_inherits_no_secret() -> None:
    os.environ["FLYTEAGENTS_SECRET_CANARY"] = os.environ["_FSEC_CANARY"] = "s3cret"
    os.environ["AWS_SECRET_ACCESS_KEY"] = "s3cret"
    try:
        assert "s3cret" not in environment(stores=False).values()
        kept = environment(stores=True)  # fsspec's file systems need theirs
        assert [name for name, value in kept.items() if value == "s3cret"] == [
            "AWS_SECRET_ACCESS_KEY"
        ]
    finally:
        for name in ("FLYTEAGENTS_SECRET_CANARY", "_FSEC_CANARY", "AWS_SECRET_ACCESS_KEY"):
            del os.environ[name]


@pytest.mark.parametrize(
    "uri",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "/proc/self/environ",
        "/etc",
        "{tmp}/{up}/etc/passwd",
    ],
)
async def test_a_declared_input_elsewhere_is_not_read(
    driver: Driver, tmp_path: Path, uri: str
) -> None:
    up = "/".join([".."] * len(tmp_path.parts))
    file = Blob(uri.format(tmp=tmp_path, up=up), "csv")
    status = await driver.run("SELECT * FROM t", inputs={"t": file}, declared=TABLE)
    assert refused(status, "FLYTEAGENTS_DUCKDB_INPUT_PREFIXES"), status


async def test_a_link_out_of_an_open_prefix_is_not_followed(data_dir: Path, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    parquet(tmp_path / "private" / "p.parquet")
    parquet(shelf / "folder" / "ok.parquet")
    (shelf / "link.parquet").symlink_to(tmp_path / "private" / "p.parquet")
    (shelf / "folder" / "link.parquet").symlink_to(tmp_path / "private" / "p.parquet")
    async with Driver(data_dir, input_prefixes=(str(shelf),)) as driver:
        for uri in (shelf / "link.parquet", shelf / "folder"):
            status = await driver.run("SELECT * FROM t", inputs={"t": Blob(str(uri))})
            assert refused(status, "is not one of this project's"), status
        fine = await driver.run(
            "SELECT * FROM t", inputs={"t": Blob(str(shelf / "folder" / "ok.parquet"))}
        )
        assert fine.phase is Phase.SUCCEEDED


@pytest.mark.parametrize("prefix", ["", "{tmp}/flyte/n0/data/0"])
async def test_a_result_may_be_read_by_its_own_project_and_domain_only(
    data_dir: Path, tmp_path: Path, prefix: str
) -> None:
    # With the widest setting that there can be: what a job wrote is still its tenant's.
    async with Driver(data_dir, input_prefixes=("/",)) as driver:
        made = await driver.run(
            "SELECT 42 AS secret", declared=TABLE, output_prefix=prefix.format(tmp=tmp_path)
        )
        assert made.outputs is not None
        table = made.outputs["results"]
        assert isinstance(table, StructuredDataset)
        read = {"statement": "SELECT secret FROM t", "declared": {"secret": Type(Kind.INTEGER)}}
        for uri in (table.uri, f"{table.uri}/00000.parquet"):
            inputs = {"t": StructuredDataset(uri)}
            mine = await driver.run(**read, inputs=inputs, identity=SALES)  # type: ignore[arg-type] # by name
            assert mine.outputs == {"secret": 42}
            theirs = await driver.run(**read, inputs=inputs, identity=OPS)  # type: ignore[arg-type] # by name
            assert refused(theirs, "is not one of this project's"), theirs


async def test_a_result_of_one_s_own_is_readable_wherever_it_lies(
    data_dir: Path, tmp_path: Path
) -> None:
    async with Driver(data_dir, input_prefixes=()) as driver:
        made = await driver.run("SELECT 1 AS a", declared=TABLE, output_prefix=str(tmp_path / "o"))
        assert made.outputs is not None
        inputs = {"t": made.outputs["results"]}
        assert (await driver.run("FROM t", inputs=inputs)).phase is Phase.SUCCEEDED


async def test_an_open_prefix_is_for_its_project_and_domain(data_dir: Path, tmp_path: Path) -> None:
    mine = parquet(tmp_path / "open" / "sales" / "development" / "x.parquet")
    theirs = parquet(tmp_path / "open" / "ops" / "development" / "x.parquet")
    prefix = str(tmp_path / "open" / "{project}" / "{domain}")
    async with Driver(data_dir, open_prefixes=(prefix,), input_prefixes=()) as driver:
        assert (await driver.run(f"FROM read_parquet('{mine}')")).phase is Phase.SUCCEEDED
        status = await driver.run(f"FROM read_parquet('{theirs}')")
        assert refused(status, "Permission Error")
        assert refused(status, "open its folder with FLYTEAGENTS_DUCKDB_OPEN_PREFIXES")
        copied = mine.with_name("copy.csv")
        assert (await driver.run(f"COPY (SELECT 1) TO '{copied}'")).phase is Phase.SUCCEEDED
        assert copied.exists()
        outside = copied.parent / ".." / "escaped.csv"
        assert refused(await driver.run(f"COPY (SELECT 1) TO '{outside}'"), "Permission Error")
        as_input = await driver.run("FROM t", inputs={"t": Blob(str(mine))})
        assert as_input.phase is Phase.SUCCEEDED


async def test_a_prefix_that_would_open_all_jobs_stops_the_start(data_dir: Path) -> None:
    for prefix in (str(data_dir.parent), str(data_dir / "results"), "/"):
        with pytest.raises(OSError, match="overlaps the data directory"):
            async with Driver(data_dir, open_prefixes=(prefix,)):
                raise AssertionError("it started")


def test_a_user_without_a_home_has_a_data_directory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert data_directory() == Path(tempfile.gettempdir()) / "flyteagents-54321" / "duckdb"


async def test_a_data_directory_that_cannot_be_made_stops_the_start() -> None:
    with pytest.raises(OSError, match="FLYTEAGENTS_DUCKDB_DATA_DIR names another one"):
        async with Driver(Path("/proc/nothing/here")):
            raise AssertionError("it started")


async def test_results_go_only_where_the_operator_lets_them(data_dir: Path, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    async with Driver(data_dir, output_prefixes=(str(allowed),)) as driver:
        for prefix, inside in (
            (allowed / "0", True),
            (tmp_path / "0", False),
            (data_dir / "jobs" / "0", False),
        ):
            status = await driver.run("SELECT 1 AS a", declared=TABLE, output_prefix=str(prefix))
            assert status.outputs is not None
            table = status.outputs["results"]
            assert isinstance(table, StructuredDataset)
            assert table.uri.startswith(str(allowed if inside else data_dir / "results"))
            assert prefix.exists() is inside


def test_names_that_lead_elsewhere_close_a_prefix_with_placeholders() -> None:
    prefixes = ("/data/{project}/{domain}", "/shared")
    assert expand(prefixes, "sales", "prod") == ["/data/sales/prod", "/shared"]
    for bad in ("..", ".", "", "a/../b", "a/b"):
        assert expand(prefixes, bad, "prod") == ["/shared"]


def test_the_stores_of_jobs_are_those_of_the_server_and_what_inputs_alone_may_be_at() -> None:
    assert set(STORES) == {*PACKAGES, "hdfs", "http", "https"}


def test_uris_mean_what_they_seem_to_mean() -> None:
    assert local_path("file:///a%20b") == Path("/a b")
    assert local_path("file://host/a") is None
    assert local_path("relative") is None
    assert store_url("s3://bucket/a") == "s3"
    for uri in ("file:///etc", "local:///etc", "simplecache::s3://b/a", "s3://b/../c", "zip://a"):
        assert store_url(uri) is None
    for uri in ("https://h/mine/%2e%2e/theirs", "http://h/a/.%2E", "s3://b/%2E%2e/c"):
        assert store_url(uri) is None


@pytest.mark.parametrize("size", ["much", "4"])
def test_a_bad_most_memory_is_all_that_is_called_bad(size: str) -> None:
    with pytest.raises(ValidationError) as refused:
        DuckDBSettings(_env_prefix="NOT_READ_", max_memory=size)
    (problem,) = refused.value.errors()
    assert problem["loc"] == ("max_memory",)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MB", 512_000_000),
        ("2 GiB", 2 << 30),
        ("1Gi", 1 << 30),
        ("1500k", 1_500_000),
        ("1000000", 1_000_000),
    ],
)
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    settings = DuckDBSettings(_env_prefix="NOT_READ_", max_memory=text)
    assert settings.max_memory == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "1 parsec"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a size is a number with a unit"):
        DuckDBSettings(_env_prefix="NOT_READ_", max_memory=text)


@pytest.mark.parametrize("size", ["4", "1.5k", 4])
def test_a_size_that_wants_a_unit_is_refused(size: object) -> None:
    with pytest.raises(ValueError, match="less than a megabyte; write a unit"):
        DuckDBSettings.model_validate({"max_memory": size})


def test_memory_is_shared_by_the_jobs_unless_it_is_set() -> None:
    one, two = (DuckDBSettings(_env_prefix="NOT_READ_", max_jobs=jobs) for jobs in (1, 2))
    assert one.memory // 2 == two.memory
    assert two.memory == two.max_memory > 0
    less = DuckDBSettings(_env_prefix="NOT_READ_", max_memory="2GB")
    assert less.memory == 2_000_000_000


def test_a_bad_number_of_jobs_is_all_that_is_called_bad() -> None:
    with pytest.raises(ValidationError) as refused:
        DuckDBSettings(_env_prefix="NOT_READ_", max_jobs=0)
    (problem,) = refused.value.errors()
    assert problem["loc"] == ("max_jobs",)


async def test_a_record_that_cannot_be_read_opens_nothing(data_dir: Path, tmp_path: Path) -> None:
    async with Driver(data_dir, input_prefixes=("/",)) as driver:
        made = await driver.run("SELECT 1 AS a", declared=TABLE, output_prefix=str(tmp_path / "o"))
        assert made.outputs is not None
        inputs = {"t": made.outputs["results"]}
        record = tmp_path / "o" / ".results.flyteagents.json"
        for content in ("", "[]", '{"project": "sales"}'):
            record.write_text(content)
            status = await driver.run("FROM t", inputs=inputs)
            assert refused(status, "cannot be read"), status


async def test_a_folder_with_another_tenant_s_result_in_it_is_not_read(
    data_dir: Path, tmp_path: Path
) -> None:
    async with Driver(data_dir, input_prefixes=("/",)) as driver:
        shared = tmp_path / "shared"
        parquet(shared / "mine" / "x.parquet", "SELECT 1 AS a")
        before = await driver.run("FROM t", inputs={"t": StructuredDataset(f"{shared}/")})
        assert before.phase is Phase.SUCCEEDED, before
        await driver.run(
            "SELECT 2 AS a", declared=TABLE, output_prefix=str(shared / "0"), identity=OPS
        )
        after = await driver.run("FROM t", inputs={"t": StructuredDataset(f"{shared}/")})
        assert refused(after, "is not one of this project's"), after
