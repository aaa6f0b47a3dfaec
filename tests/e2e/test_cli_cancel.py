"""`flyteagents cancel` says that a job has stopped only where it has seen it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.command import JOBS, cancelled, environment, flyteagents, started, task, wait_for

RUNS_ON = "the job could not be cancelled and may still run: "


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    return environment(**{JOBS: str(jobs), "XDG_CACHE_HOME": str(tmp_path / "cache")})


@pytest.fixture
def stubborn() -> bool:
    return False


@pytest.fixture
def running(env: dict[str, str], tmp_path: Path, stubborn: bool) -> Iterator[Path]:
    """A job that runs, the last run's; the folder it is in."""
    file = task(tmp_path, seconds=60, stubborn=stubborn)
    process = started("run", file, "--every", "0.1", env=env)
    wait_for(process.stdout, "RUNNING")
    yield tmp_path / "jobs"
    process.kill()
    process.communicate()


def test_a_cancel_that_the_vendor_refuses_is_no_success(env: dict[str, str], running: Path) -> None:
    done = flyteagents("cancel", env={**env, "FLYTEAGENTS_CLOCKED_LOCKED": "true"})
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{RUNS_ON}the server answered OK, but the clock is locked" in done.stderr
    assert not cancelled(running)


def test_a_cancel_for_a_tenant_that_is_not_served_is_no_success(
    env: dict[str, str], running: Path
) -> None:
    done = flyteagents("cancel", env={**env, "FLYTEAGENTS_ALLOW": "a/b"})
    assert (done.returncode, done.stdout) == (1, "")
    why = "FLYTEAGENTS_ALLOW is a/b, and the job is of local/development"
    assert f"{RUNS_ON}{why}" in done.stderr
    assert not cancelled(running)


def test_a_cancel_of_a_job_that_its_vendor_does_not_know_is_no_success(
    env: dict[str, str], running: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = flyteagents("cancel", env={**env, JOBS: str(elsewhere)})
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{RUNS_ON}the server answered OK, but its vendor does not know it" in done.stderr
    assert not cancelled(running)


def test_a_cancel_says_first_which_job_it_is_about(env: dict[str, str], running: Path) -> None:
    done = flyteagents("cancel", env=env)
    assert (done.returncode, done.stdout) == (0, "the job was cancelled\n"), done.stderr
    (job,) = running.glob("*.json")
    key = job.stem
    named = f"to be cancelled: clocked_job job {key[:12]} {json.dumps({'id': key})} of local/"
    assert done.stderr.startswith(named)
    assert ", started 20" in done.stderr
    assert cancelled(running)


@pytest.mark.parametrize("stubborn", [True])
def test_a_cancel_that_takes_long_tells_what_it_waits_for(
    env: dict[str, str], running: Path
) -> None:
    process = started("cancel", env=env)
    wait_for(process.stderr, " s  cancelling, try 1 of 11")
    assert " s  cancelling, try " in wait_for(process.stderr, "the vendor has not accepted")
    process.kill()
    process.communicate()
    assert not cancelled(running)
