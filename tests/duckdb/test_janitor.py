"""Old job directories go; what lives, waits or lies elsewhere stays."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.duckdb.driving import FOREVER, TABLE, Driver, ended, running

from flyteagents import Identity, JobNotFound, Phase, StructuredDataset
from flyteagents_duckdb.janitor import sweep


def age(path: Path) -> None:
    """Make a directory and all in it years old."""
    for each in (path, *path.rglob("*")):
        os.utime(each, (1e9, 1e9), follow_symlinks=False)


async def test_an_ended_job_is_removed_after_its_time_and_its_result_is_not(
    driver: Driver, tmp_path: Path
) -> None:
    old = await driver.create(
        driver.task("SELECT 1 AS a", declared=TABLE, output_prefix=str(tmp_path / "out"))
    )
    await driver.until(old, ended, TABLE)
    new = await driver.create(driver.task("SELECT 2"))
    await driver.until(new, ended)
    age(driver.directory(old).path)
    age(tmp_path / "out")
    assert sweep(driver.agent.data, keep=3600, keep_results=3600) == 1
    with pytest.raises(JobNotFound):
        await driver.get(old)
    assert (await driver.get(new)).phase is Phase.SUCCEEDED
    assert (tmp_path / "out" / "results" / "00000.parquet").is_file()
    assert not list((driver.agent.data.root / "trash").iterdir())


async def test_a_job_that_runs_or_waits_is_not_removed_however_old(data_dir: Path) -> None:
    async with Driver(data_dir, max_jobs=1) as driver:
        job = await driver.create(driver.task(FOREVER))
        await driver.until(job, running)
        late = await driver.create(driver.task("SELECT 1"))
        age(driver.directory(job).path)
        assert sweep(driver.agent.data, keep=3600, keep_results=3600) == 0
        assert (await driver.get(job)).phase is Phase.RUNNING
        assert (await driver.get(late)).phase is Phase.INITIALIZING


async def test_results_in_the_data_directory_are_kept_for_longer(driver: Driver) -> None:
    status = await driver.run("SELECT 1 AS a", declared=TABLE)
    assert status.outputs is not None
    table = status.outputs["results"]
    assert isinstance(table, StructuredDataset)
    result = driver.agent.data.root / "results" / "sales" / "development" / Path(table.uri).name
    assert sweep(driver.agent.data, keep=3600, keep_results=3600) == 0
    assert result.is_dir()
    age(result)
    sweep(driver.agent.data, keep=3600, keep_results=3600)
    assert not result.exists()


async def test_leftovers_of_servers_that_died_are_removed(driver: Driver) -> None:
    root = driver.agent.data.root
    (root / "new" / "half" / "work").mkdir(parents=True)
    (root / "waiting" / "1-gone").touch()
    fresh = root / "new" / "fresh"
    fresh.mkdir()
    for name in ("new/half", "waiting/1-gone"):
        age(root / name)
    sweep(driver.agent.data, keep=3600, keep_results=3600)
    assert list((root / "new").iterdir()) == [fresh]
    assert not list((root / "waiting").iterdir())


async def test_the_server_tidies_by_itself_when_it_starts(data_dir: Path) -> None:
    async with Driver(data_dir) as driver:
        job = await driver.create(driver.task("SELECT 1"))
        await driver.until(job, ended)
        age(driver.directory(job).path)
    async with Driver(data_dir, keep=3600) as again:
        path = again.directory(job).path
        for _ in range(3000):
            if not path.exists():
                break
            await asyncio.sleep(0.02)
        assert not path.exists()


async def test_past_jobs_are_listed_newest_first_with_how_they_ended(data_dir: Path) -> None:
    async with Driver(data_dir, max_jobs=1) as driver:
        call = driver.call("logs")
        assert await driver.agent.past_jobs(call, 10) == []
        good = await driver.create(driver.task("SELECT 1 AS a", declared=TABLE))
        await driver.until(good, ended)
        await driver.run("SELECT nope")
        other = driver.task(FOREVER, identity=Identity(project="ops", domain="development"))
        forever = await driver.create(other)
        await driver.until(forever, running, identity=other.identity)
        late = await driver.create(driver.task("SELECT 2"))
        found = await driver.agent.past_jobs(call, 10)
        assert [(each.statement, each.phase) for each in found] == [
            ("SELECT 2", Phase.INITIALIZING),
            (FOREVER, Phase.RUNNING),
            ("SELECT nope", Phase.FAILED),
            ("SELECT 1 AS a", Phase.SUCCEEDED),
        ]
        assert [each.job for each in found[:2]] == [late, forever]
        assert found[1].project == "ops"
        assert 'column "nope"' in found[2].message
        assert found[3].result.startswith(str(data_dir / "results"))
        assert (
            found[3].created
            <= (found[3].started or found[3].created)
            <= (found[3].ended or found[3].created)
        )
        assert [each.job for each in await driver.agent.past_jobs(call, 1)] == [late]
        # What is listed is what `cancel`, `get` and `logs` take.
        for each in found[:2]:
            who = Identity(project=each.project, domain=each.domain)
            await driver.cancel(each.job, who)
            assert (await driver.until(each.job, ended, identity=who)).phase is Phase.ABORTED


async def test_a_directory_that_is_not_there_has_no_past_jobs(tmp_path: Path) -> None:
    driver = Driver(tmp_path / "nowhere")
    assert await driver.agent.past_jobs(driver.call("logs"), 10) == []
    assert not (tmp_path / "nowhere").exists()
