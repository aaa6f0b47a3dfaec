"""How jobs end that do not succeed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.duckdb.driving import (
    FOREVER,
    TABLE,
    Driver,
    ended,
    kill_jobs,
    only,
    processes_of,
    running,
)

from flyteagents import Kind, Phase, Type, Unavailable
from flyteagents_duckdb.agent import DuckDBAgent
from flyteagents_duckdb_job.directory import STALE


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELEC 1", 'Parser Error: syntax error at or near "SELEC"'),
        ("SELECT nope FROM range(3)", 'Binder Error: Referenced column "nope"'),
        ("SELECT * FROM nowhere", "Table with name nowhere does not exist"),
        ("SELECT error('no such luck')", "no such luck"),
        ("SELECT i::TINYINT FROM range(1000) t(i)", "Conversion Error"),
        ("CREATE TEMP TABLE t (i INTEGER); SELECT x FROM t", 'column "x"'),
    ],
)
async def test_an_error_in_the_sql_is_a_failure_with_duckdb_s_message(
    driver: Driver, sql: str, said: str
) -> None:
    status = await driver.run(sql, declared=TABLE)
    assert status.phase is Phase.FAILED
    assert said in (status.message or "")


async def test_a_long_message_is_cut_by_whoever_masks_the_secrets_in_it(driver: Driver) -> None:
    """Half of one would not be known for one."""
    status = await driver.run("SELECT error(repeat('x', 3000))", declared=TABLE)
    assert "x" * 3000 in (status.message or "")


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("SELECT nope FROM range(3)", "LINE 1: SELECT nope FROM range(3)\n               ^"),
        ("-- why\n\nSELECT\n  nope\nFROM range(3);", "LINE 4:   nope\n          ^"),
        ("SELECT 1;\nSELECT nope FROM range(1);\nSELECT 2", "LINE 2: SELECT nope"),
        (
            "SELECT 1;" + "\n" * 9 + "SELECT nope FROM range(1)",
            "LINE 10: SELECT nope FROM range(1)\n                ^",
        ),
        ("SELECT 1;\nSELECT 2;\nSELEC 3", "LINE 3: SELEC 3"),
        ("SELECT 1;\nSELECT (range || 'é')::INT AS n\nFROM range(3)", "LINE 2: SELECT (range"),
    ],
)
async def test_an_error_shows_the_author_s_own_line(driver: Driver, sql: str, shown: str) -> None:
    for declared in (TABLE, {"n": Type(Kind.INTEGER)}, {}):
        status = await driver.run(sql, declared=declared)
        assert status.phase is Phase.FAILED
        assert shown in (status.message or ""), status.message


async def test_a_job_that_waits_says_why_and_what_it_sent_ends_with_its_end_value(
    data_dir: Path,
) -> None:
    async with Driver(data_dir, max_jobs=1) as driver:
        first = await driver.create(driver.task(FOREVER))
        await driver.until(first, running)
        jobs = [await driver.create(driver.task("SELECT 1")) for _ in range(2)]
        last = await driver.get(jobs[1])
        assert last.message == (
            "waits for 1 that came before; at most 1 run at once (FLYTEAGENTS_DUCKDB_MAX_JOBS)"
        )
        sent: dict[str, object] = dict(last.info)
        assert sent["ahead"] == 1
        await driver.cancel(first)
        await driver.until(first, ended)
        for job in jobs:
            status = await driver.until(job, ended)
            assert status.phase is Phase.SUCCEEDED
            assert {"state", "seconds", "progress"} <= status.info.keys()
        sent.update({**DuckDBAgent.later_info, **status.info})  # as the kernel does
        assert (sent["state"], sent["ahead"], sent["progress"]) == ("succeeded", 0, 1.0)


async def test_all_that_a_running_job_tells_is_told_of_a_dead_one_too(
    driver: Driver, data_dir: Path
) -> None:
    job = await driver.create(
        driver.task(FOREVER, declared=TABLE, output_prefix=str(data_dir.parent / "out"))
    )
    status = await driver.until(job, lambda status: "bytes" in status.info)
    kill_jobs(data_dir)
    end = await driver.until(job, ended)
    assert status.info.keys() <= end.info.keys()
    assert end.info["state"] == "retryable_failed"


async def test_out_of_memory_fails_and_says_which_limit(driver: Driver) -> None:
    status = await driver.run(
        "SELECT list(i) FROM range(100000000) t(i)", config={"memory": "150MiB"}, declared=TABLE
    )
    assert (status.phase, status.code) == (Phase.FAILED, "OutOfMemory")
    assert "the job's limit of 150 MiB (`memory` in the task's config)" in (status.message or "")


async def test_spilling_too_much_fails_and_names_that_limit(data_dir: Path) -> None:
    async with Driver(data_dir, max_spill="20MB") as driver:
        status = await driver.run(
            "CREATE TEMP TABLE t AS SELECT i, random() AS x, uuid() FROM range(20000000) t(i)",
            config={"memory": "100MiB"},
        )
        assert (status.phase, status.code) == (Phase.FAILED, "OutOfMemory")
        assert "FLYTEAGENTS_DUCKDB_MAX_SPILL" in (status.message or "")


async def test_a_killed_process_is_retryable_at_once_and_for_ever(
    driver: Driver, data_dir: Path
) -> None:
    job = await driver.create(driver.task(FOREVER))
    await driver.until(job, running)
    assert kill_jobs(data_dir) == 1
    # Its lock tells: long before its heartbeat would.
    status = await driver.until(job, ended, seconds=STALE / 2)
    assert status.phase is Phase.RETRYABLE_FAILED
    assert "process has gone" in (status.message or "")
    again = await driver.create(driver.task(FOREVER, key=job.key))
    assert (await driver.get(again)).phase is Phase.RETRYABLE_FAILED
    assert await only(data_dir, 0)


async def test_one_crash_takes_down_one_job(driver: Driver, data_dir: Path) -> None:
    doomed = await driver.create(driver.task(FOREVER))
    await driver.until(doomed, running)
    victim = processes_of(data_dir)
    other = await driver.create(driver.task("SELECT max(hash(i)) FROM range(20000000) t(i)"))
    await driver.until(other, lambda status: running(status) or ended(status))
    os.kill(victim[0], 9)
    assert (await driver.until(other, ended)).phase is Phase.SUCCEEDED
    assert (await driver.until(doomed, ended)).phase is Phase.RETRYABLE_FAILED


async def test_on_another_machine_the_heartbeat_tells_whether_a_job_lives(
    driver: Driver, data_dir: Path
) -> None:
    job = await driver.create(driver.task(FOREVER))
    await driver.until(job, running)
    kill_jobs(data_dir)
    assert await only(data_dir, 0)
    directory = driver.directory(job)
    # As if it ran where its lock cannot be seen from here.
    started = json.loads((directory.path / "started").read_text())
    (directory.path / "started").write_text(json.dumps({**started, "kernel": "another"}))
    assert (await driver.get(job)).phase is Phase.RUNNING
    long_ago = time.time() - STALE - 1
    os.utime(directory.path / "alive", (long_ago, long_ago))
    assert (await driver.get(job)).phase is Phase.RETRYABLE_FAILED


async def test_a_job_renews_its_heartbeat(driver: Driver) -> None:
    job = await driver.create(driver.task(FOREVER))
    await driver.until(job, running)
    alive = driver.directory(job).path / "alive"
    os.utime(alive, (1, 1))
    for _ in range(1500):
        if alive.stat().st_mtime > 1:
            break
        await asyncio.sleep(0.02)
    assert time.time() - alive.stat().st_mtime < STALE


async def test_a_process_that_was_given_up_stops_by_itself(driver: Driver, data_dir: Path) -> None:
    job = await driver.create(driver.task(FOREVER))
    await driver.until(job, running)
    assert driver.directory(job).end("RETRYABLE_FAILED", "taken for dead")
    assert await only(data_dir, 0)
    assert (await driver.get(job)).message == "taken for dead"


async def test_cancel_stops_a_running_job_within_seconds(driver: Driver, data_dir: Path) -> None:
    began = time.monotonic()
    await driver.run("SELECT 1")
    short = time.monotonic() - began  # on this machine, with what else it has to do now
    job = await driver.create(
        driver.task(FOREVER, declared=TABLE, output_prefix=str(data_dir.parent / "out"))
    )
    await driver.until(job, running)
    began = time.monotonic()
    await driver.cancel(job)
    status = await driver.get(job)
    assert status.cancelling or ended(status)
    status = await driver.until(job, ended)
    assert time.monotonic() - began < max(5.0, 2 * short)
    assert status.phase is Phase.ABORTED
    assert await only(data_dir, 0)
    assert not list((data_dir.parent / "out").glob("*"))
    assert not list((data_dir.parent / "out").glob(".*"))
    await driver.cancel(job)
    assert (await driver.get(job)).phase is Phase.ABORTED


async def test_cancel_reaches_a_job_before_its_query_begins(driver: Driver) -> None:
    for _ in range(3):
        job = await driver.create(driver.task(FOREVER))
        await driver.cancel(job)
        assert (await driver.until(job, ended)).phase is Phase.ABORTED


async def test_a_job_that_waits_is_cancelled_and_never_starts(data_dir: Path) -> None:
    async with Driver(data_dir, max_jobs=1) as driver:
        first = await driver.create(driver.task(FOREVER))
        await driver.until(first, running)
        late = await driver.create(driver.task("SELECT 1"))
        await driver.cancel(late)
        assert (await driver.get(late)).phase is Phase.ABORTED
        await driver.cancel(first)
        await driver.until(first, ended)
        assert await only(data_dir, 0)
        assert (await driver.get(late)).message == "the job was cancelled before it started"


async def test_cancel_after_success_changes_nothing(driver: Driver, tmp_path: Path) -> None:
    task = driver.task("SELECT 1 AS a", declared=TABLE, output_prefix=str(tmp_path / "out"))
    job = await driver.create(task)
    await driver.until(job, ended, TABLE)
    await driver.cancel(job)
    assert (await driver.get(job, TABLE)).phase is Phase.SUCCEEDED
    assert (tmp_path / "out" / "results" / "00000.parquet").is_file()


async def test_a_job_stops_at_the_task_s_timeout_and_at_the_operator_s(data_dir: Path) -> None:
    async with Driver(data_dir, max_seconds=0.4) as driver:
        operator = await driver.run(FOREVER)
        assert operator.phase is Phase.FAILED
        assert "FLYTEAGENTS_DUCKDB_MAX_SECONDS" in (operator.message or "")
        task = await driver.run(FOREVER, timeout=timedelta(seconds=0.2))
        assert task.phase is Phase.RETRYABLE_FAILED
        assert "the task's timeout" in (task.message or "")


async def test_a_directory_without_room_is_a_clear_error(data_dir: Path) -> None:
    async with Driver(data_dir, min_free="1000TB") as driver:
        task = driver.task("SELECT 1")
        with pytest.raises(Unavailable, match=f"no space left in the data directory {data_dir}"):
            await driver.create(task)
        # The kernel names the job all the same, since it knows the name, and polls it.
        named = driver.agent.handle(task)
        assert named is not None
        status = await driver.get(named)
        assert status.phase is Phase.RETRYABLE_FAILED
        assert "no space left" in (status.message or "")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    kill_jobs(place)
    subprocess.run(["umount", "-l", str(place)], check=True)


async def test_a_disk_that_gets_full_meanwhile_is_a_clear_error(small_disk: Path) -> None:
    async with Driver(small_disk / "data", min_free="1MB") as driver:
        status = await driver.run(
            "SELECT uuid() AS u FROM range(1000000)", declared=TABLE, config={"memory": "200MB"}
        )
        assert (status.phase, status.code) == (Phase.RETRYABLE_FAILED, "DiskFull"), status
        assert "no space left for the job's files" in (status.message or "")
        assert (await driver.run("SELECT 1")).phase is Phase.SUCCEEDED


async def test_an_output_prefix_on_a_full_disk_is_a_clear_error(
    driver: Driver, small_disk: Path
) -> None:
    status = await driver.run(
        "SELECT uuid() AS u FROM range(1000000)",
        declared=TABLE,
        output_prefix=str(small_disk / "0"),
    )
    assert (status.phase, status.code) == (Phase.RETRYABLE_FAILED, "DiskFull"), status
    assert not list((small_disk / "0").iterdir())
