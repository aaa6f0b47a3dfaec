"""One key, one job: whoever asks, and whichever server runs it."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest
from tests.duckdb.driving import (
    FOREVER,
    SALES,
    Driver,
    ended,
    named_by,
    only,
    processes_of,
    running,
    server_process,
)

from flyteagents import Identity, JobConflict, JobNotFound, Phase, Unavailable
from flyteagents_duckdb.job import DuckDBJob
from flyteagents_duckdb_job.queue import enqueue

KEY = "ab" * 20


async def test_a_repeated_create_names_the_same_job_and_runs_it_once(
    driver: Driver, tmp_path: Path
) -> None:
    target = tmp_path / "runs"
    target.mkdir()
    async with Driver(driver.agent.data.root, open_prefixes=(str(target),), max_jobs=8) as other:
        # Every run leaves a file of its own.
        sql = f"""
            COPY (SELECT 1 AS n) TO '{target}/runs'
            (FORMAT csv, PARTITION_BY n, FILENAME_PATTERN 'run_{{uuid}}', APPEND,
             WRITE_PARTITION_COLUMNS true)
        """
        jobs = await asyncio.gather(*(other.create(other.task(sql, key=KEY)) for _ in range(20)))
        assert set(jobs) == {DuckDBJob(key=KEY, data=jobs[0].data)}
        assert jobs[0] == other.agent.handle(other.task(sql, key=KEY))
        status = await other.until(jobs[0], ended)
        assert status.phase is Phase.SUCCEEDED, status
        again = await other.create(other.task(sql, key=KEY))
        assert (await other.get(again)).phase is Phase.SUCCEEDED
    assert len(list(target.rglob("*.csv"))) == 1


async def test_two_server_processes_that_create_at_once_make_one_job(data_dir: Path) -> None:
    with (
        server_process(data_dir, KEY, FOREVER) as one,
        server_process(data_dir, KEY, FOREVER) as two,
    ):
        job = named_by(one)
        assert named_by(two) == job
        async with Driver(data_dir) as driver:
            await driver.until(job, running)
            assert [path.name for path in (data_dir / "jobs").iterdir()] == [KEY]
            assert await only(data_dir, 1)
            await driver.cancel(job)
            await driver.until(job, ended)


async def test_a_job_goes_on_when_its_server_is_killed_and_another_one_polls_it(
    data_dir: Path,
) -> None:
    with server_process(data_dir, KEY, "SELECT max(hash(i)) FROM range(60000000) t(i)") as server:
        job = named_by(server)
    assert server.returncode == -signal.SIGKILL
    async with Driver(data_dir) as other:
        status = await other.until(job, ended)
        assert status.phase is Phase.SUCCEEDED, status


async def test_a_claimed_job_that_never_started_is_started_by_whoever_polls_it(
    data_dir: Path,
) -> None:
    async with Driver(data_dir) as first, Driver(data_dir) as second:
        task = first.task("SELECT 1")
        job = first.agent.handle(task)
        assert job is not None
        # The server dies here: it has claimed the job, and started nothing.
        first.agent.jobs.claim(job, {**_described(first, task)})
        assert first.directory(job).started() is None
        assert processes_of(data_dir) == []
        status = await second.until(job, ended)
        assert status.phase is Phase.SUCCEEDED


async def test_the_same_key_with_other_work_is_a_conflict(driver: Driver) -> None:
    await driver.create(driver.task("SELECT 1", key=KEY))
    with pytest.raises(JobConflict):
        await driver.create(driver.task("SELECT 2", key=KEY))
    with pytest.raises(JobConflict):
        await driver.create(driver.task("SELECT 1", key=KEY, inputs={"a": 1}))
    same = driver.task("SELECT 1", key=KEY, config={"threads": 1})
    assert (await driver.create(same)).key == KEY


async def test_only_so_many_jobs_run_and_the_others_wait_their_turn(data_dir: Path) -> None:
    async with Driver(data_dir, max_jobs=2) as driver:
        jobs = [await driver.create(driver.task(FOREVER)) for _ in range(2)]
        for job in jobs:
            await driver.until(job, running)
        late = [await driver.create(driver.task("SELECT 1")) for _ in range(3)]
        for number, job in enumerate(late):
            status = await driver.get(job)
            assert status.phase is Phase.INITIALIZING
            assert status.info["ahead"] == number
        assert await only(data_dir, 2)
        await driver.cancel(jobs[0])
        # Nobody polls the jobs that wait: each process looks for the next one when it ends.
        ending = [driver.directory(job).path / "ended.json" for job in late]
        for _ in range(3000):
            if all(path.exists() for path in ending):
                break
            await asyncio.sleep(0.02)
        ends = [json.loads(path.read_text()) for path in ending]
        assert [end["phase"] for end in ends] == ["SUCCEEDED"] * 3
        assert [end["began"] for end in ends] == sorted(end["began"] for end in ends)
        assert (await driver.get(jobs[1])).phase is Phase.RUNNING
        await driver.cancel(jobs[1])
        await driver.until(jobs[1], ended)


async def test_a_marker_of_a_job_that_is_gone_or_done_starts_nothing(driver: Driver) -> None:
    job = await driver.create(driver.task("SELECT 1"))
    await driver.until(job, ended)
    before = driver.directory(job).started()
    enqueue(driver.agent.data, job.key, 1)
    enqueue(driver.agent.data, "cd" * 20, 2)
    assert (await driver.run("SELECT 2")).phase is Phase.SUCCEEDED
    assert driver.directory(job).started() == before
    assert not list((driver.agent.data.root / "waiting").iterdir())


async def test_a_job_of_another_data_directory_is_a_hiccup_that_says_so(
    driver: Driver, tmp_path: Path
) -> None:
    job = await driver.create(driver.task("SELECT 1"))
    async with Driver(tmp_path / "other") as other:
        for attempt in (other.get, other.cancel):
            with pytest.raises(Unavailable, match=f"is in the data directory {job.data}"):
                await attempt(job)
    (driver.agent.data.root / "id").unlink()
    with pytest.raises(Unavailable, match="not mounted"):
        await driver.get(job)
    with pytest.raises(Unavailable, match="not mounted"):
        await driver.create(driver.task("SELECT 1"))


async def test_a_job_shows_itself_only_to_its_project_and_domain(driver: Driver) -> None:
    job = await driver.create(driver.task("SELECT 42 AS secret"))
    for stranger in (Identity(project="ops", domain="development"), Identity(project="sales")):
        with pytest.raises(JobNotFound):
            await driver.get(job, identity=stranger)
        with pytest.raises(JobNotFound):
            await driver.cancel(job, stranger)
        with pytest.raises(JobNotFound):
            await driver.agent.logs(job, driver.call("logs", stranger), "", 10)
    assert (await driver.until(job, ended, identity=SALES)).phase is Phase.SUCCEEDED


def _described(driver: Driver, task: object) -> dict[str, object]:
    from flyteagents_duckdb.request import describe

    return describe(task, driver.agent.settings)  # type: ignore[arg-type] # it is a task
