"""`flyteagents cancel` says that a job has stopped only where it has seen it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.command import (
    AGENTS,
    JOBS,
    cancelled,
    environment,
    flyteagents,
    started,
    task,
    wait_for,
)

from flyteagents._cli.cancelling import STOPS_WITHIN
from flyteagents.testing import RealServer

RUNS_ON = "the job was not seen to stop, and may still run: "


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
    assert f"{RUNS_ON}the clock is locked\n" in done.stderr
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


@pytest.fixture
def endpoint(tmp_path: Path, env: dict[str, str]) -> Iterator[str]:
    """A server of somebody else's."""
    with RealServer(["clocked"], {JOBS: env[JOBS]}, [AGENTS]) as server:
        yield server.endpoint


def test_at_an_endpoint_run_asks_the_server_whether_its_job_has_stopped(
    env: dict[str, str], tmp_path: Path, endpoint: str
) -> None:
    file = task(tmp_path, seconds=60)
    process = started("run", file, "--endpoint", endpoint, "--every", "0.1", env=env)
    wait_for(process.stdout, "RUNNING")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the job was cancelled\n" in out
    assert cancelled(tmp_path / "jobs")


def test_at_an_endpoint_a_cancel_says_what_it_cannot_see_and_how_to_see_it(
    env: dict[str, str], tmp_path: Path, endpoint: str
) -> None:
    """Nobody has the output prefix of a job of Flyte's but Flyte, and who looks it up."""
    file, prefix = task(tmp_path, seconds=60), str(tmp_path / "out")
    given = ("--endpoint", endpoint, "--output-prefix", prefix)
    process = started("run", file, *given, "--every", "0.1", env=env)
    wait_for(process.stdout, "RUNNING")
    meta = (tmp_path / "cache" / "flyteagents" / "last-run").read_text().split()[0]
    process.kill()
    process.communicate()

    at = ("--endpoint", endpoint)
    forgotten = {**env, "XDG_CACHE_HOME": str(tmp_path / "elsewhere")}
    blind = flyteagents("cancel", meta, *at, env=forgotten)
    assert (blind.returncode, blind.stdout) == (1, "")
    assert "the server accepted the cancel; whether the job has stopped was not" in blind.stderr
    assert "--output-prefix" in blind.stderr
    wrong = flyteagents("cancel", meta, *at, "--output-prefix", prefix, env=forgotten)
    assert wrong.returncode == 64
    assert "is not this job's output prefix" in wrong.stderr

    right = flyteagents("cancel", meta, *at, "--output-prefix", f"{prefix}/0", env=forgotten)
    said = "the job had been cancelled before\n"
    assert (right.returncode, right.stdout) == (0, said), right.stderr
    last = flyteagents("cancel", *at, env=env)  # the prefix is kept with the last run
    assert (last.returncode, last.stdout) == (0, said), last.stderr


def test_at_an_endpoint_a_cancel_waits_until_the_server_says_that_the_job_has_ended(
    env: dict[str, str], running: Path, endpoint: str
) -> None:
    done = flyteagents("cancel", "--endpoint", endpoint, env=env)
    assert (done.returncode, done.stdout) == (0, "the job was cancelled\n"), done.stderr
    assert cancelled(running)
    again = flyteagents("cancel", "--endpoint", endpoint, env=env)
    said = "the job had been cancelled before\n"
    assert (again.returncode, again.stdout) == (0, said), again.stderr


def test_of_a_job_that_somebody_else_cancels_run_says_so(
    env: dict[str, str], tmp_path: Path, endpoint: str
) -> None:
    """To Flyte it has FAILED, as one has that failed by itself."""
    file = task(tmp_path, seconds=60)
    process = started("run", file, "--endpoint", endpoint, "--every", "0.1", env=env)
    wait_for(process.stdout, "RUNNING")
    done = flyteagents("cancel", "--endpoint", endpoint, env=env)
    assert (done.returncode, done.stdout) == (0, "the job was cancelled\n"), done.stderr
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "FAILED (cancelled)" in out.splitlines()[0]
    assert out.splitlines()[-1].startswith("FAILED (cancelled) in ")


def test_what_the_vendor_refuses_to_cancel_is_told_at_once_and_how_to_go_on(
    env: dict[str, str], tmp_path: Path, endpoint: str
) -> None:
    """Although it goes on answering that the job runs."""
    file = task(tmp_path, seconds=600, refuses=True)
    process = started("run", file, "--every", "0.1", env=env)
    wait_for(process.stdout, "RUNNING")
    began = time.monotonic()
    for at in ((), ("--endpoint", endpoint)):
        done = flyteagents("cancel", *at, env=env)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{RUNS_ON}[CLOCKED_notYours] the clock is not yours to stop\n" in done.stderr
        on = "when that is mended, cancel the job again; or stop it at its vendor (https://clock."
        if not at:
            assert on in done.stderr
        else:
            assert "when that is mended, cancel the job again" in done.stderr

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - began < STOPS_WITHIN
    assert process.returncode == 130, err
    assert f"{RUNS_ON}[CLOCKED_notYours] the clock is not yours to stop\n" in out
    assert "to stop it, when that is mended:\n  flyteagents cancel ey" in out


def test_why_a_cancel_is_not_accepted_is_told_with_each_try(
    env: dict[str, str], tmp_path: Path
) -> None:
    file = task(tmp_path, seconds=600, away=True)
    process = started("run", file, "--every", "0.1", env=env)
    wait_for(process.stdout, "RUNNING")
    process.send_signal(signal.SIGINT)
    told = wait_for(process.stdout, "the vendor has not accepted the cancel")
    assert told.endswith("the vendor has not accepted the cancel: the clock is being wound\n")
    process.kill()
    process.communicate()
