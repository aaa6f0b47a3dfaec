"""`flyteagents run` ends its job and its server on every way out."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.command import (
    JOBS,
    cancelled,
    environment,
    flyteagents,
    gone,
    started,
    task,
    wait_for,
)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(**{JOBS: str(tmp_path), "TMPDIR": str(tmp_path)})


def interrupted(
    process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT
) -> tuple[dict[str, Any], str]:
    """What `run --json` tells, and its stderr, when it is interrupted while its job runs."""
    wait_for(process.stderr, "RUNNING")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    return json.loads(out), err


def test_a_task_that_passes_its_timeout_is_cancelled(env: dict[str, str], tmp_path: Path) -> None:
    file = task(tmp_path, timeout="2s", seconds=60)
    done = flyteagents("run", file, "--every", "0.1", env=env)
    assert done.returncode == 2
    assert "timeout of 2 s; the job was cancelled" in done.stdout
    assert cancelled(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cancels_the_job_and_stops_the_server(
    env: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    process = started("run", task(tmp_path, seconds=60), "--every", "0.1", "--json", env=env)
    server = int(wait_for(process.stderr, "is process ").split("is process ")[1].split()[0])
    told, err = interrupted(process, number)
    assert (told["phase"], told["cancelled"], told["may_run"]) == ("ABORTED", True, False)
    assert "the job was cancelled" in err
    assert cancelled(tmp_path)
    assert not Path(f"/proc/{server}").exists()


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_two_interrupts_at_once_are_one(
    env: dict[str, str], tmp_path: Path, second: signal.Signals
) -> None:
    process = started("run", task(tmp_path, seconds=60), "--every", "0.1", env=env)
    wait_for(process.stdout, "RUNNING")
    process.send_signal(signal.SIGINT)
    process.send_signal(second)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the job was cancelled" in out
    assert cancelled(tmp_path)


def test_a_second_interrupt_leaves_at_once(env: dict[str, str], tmp_path: Path) -> None:
    process = started("run", task(tmp_path, seconds=60, stubborn=True), env=env)
    server = int(wait_for(process.stdout, "is process ").split("is process ")[1].split()[0])
    wait_for(process.stdout, "RUNNING")
    process.send_signal(signal.SIGINT)
    wait_for(process.stdout, "cancelling")
    time.sleep(0.5)  # else it is the same Ctrl-C still
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert time.monotonic() - began < 20, "the cancel takes 60 s"
    assert "the job may run on; to stop it:\n  flyteagents cancel ey" in err
    assert gone(server, within=60)


def test_an_accepted_cancel_of_a_job_that_nobody_saw_stop_is_not_said_to_have_stopped_it(
    env: dict[str, str], tmp_path: Path
) -> None:
    file = task(tmp_path, seconds=60, locks=True)
    told, err = interrupted(started("run", file, "--every", "0.1", "--json", env=env))
    assert (told["phase"], told["cancelled"], told["may_run"]) == (None, False, True)
    why = "its vendor took the cancel, and does not say whether it stopped: the clock is locked"
    assert told["message"] == f"the job was not seen to stop, and may still run: {why}"
    to_stop = "to stop it, when that is mended:\n  flyteagents cancel"
    assert f"{why}\n{to_stop} {told['resource_meta']}\n" in err
    assert not cancelled(tmp_path)


def test_a_job_that_succeeded_before_its_cancel_is_not_said_to_be_cancelled(
    env: dict[str, str], tmp_path: Path
) -> None:
    file = task(tmp_path, seconds=60, overtaken=True)
    told, _ = interrupted(started("run", file, "--every", "30", "--json", env=env))
    assert (told["phase"], told["cancelled"], told["may_run"]) == ("SUCCEEDED", False, False)
    assert told["message"] == "the job had succeeded before it could be cancelled"


def test_an_interrupt_before_there_is_a_job_is_130_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        endpoint = f"127.0.0.1:{mute.getsockname()[1]}"
        process = started("run", task(tmp_path), "--endpoint", endpoint)
        connection, _ = mute.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "flyteagents: interrupted\n"


def test_a_closed_pipe_cancels_the_job_also_when_nothing_is_printed(
    env: dict[str, str], tmp_path: Path
) -> None:
    """As `flyteagents run ... | head -1` does it."""
    process = started("run", task(tmp_path, seconds=60), "--every", "30", env=env)
    wait_for(process.stdout, "RUNNING")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(60) == 130, process.stderr.read()
    process.stderr.close()
    assert cancelled(tmp_path)


def test_a_reader_that_has_seen_enough_of_the_result_makes_no_failure_of_it(
    env: dict[str, str], tmp_path: Path
) -> None:
    """As `flyteagents run ... | head -2` does it, when the job has ended."""
    process = started("run", task(tmp_path, outputs={"total": 42}), env=env)
    wait_for(process.stdout, "SUCCEEDED")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(60) == 0, process.stderr.read()
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_full_disk_is_told_in_a_line_and_no_job_is_started(
    env: dict[str, str], tmp_path: Path
) -> None:
    for arguments in (("run", task(tmp_path)), ("list",), ("run", "--help")):
        with Path("/dev/full").open("w") as full:
            process = started(*arguments, env=env, stdout=full)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 74, arguments
        assert err == "flyteagents: cannot write: No space left on device\n"
    assert not list(tmp_path.glob("*.json"))


def test_the_end_of_the_terminal_cancels_the_job(env: dict[str, str], tmp_path: Path) -> None:
    process = started("run", task(tmp_path, seconds=60), "--every", "0.1", env=env)
    wait_for(process.stdout, "RUNNING")
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert cancelled(tmp_path)


def test_the_job_and_the_server_end_with_a_run_that_is_killed(
    env: dict[str, str], tmp_path: Path
) -> None:
    process = started("run", task(tmp_path, seconds=60), "--every", "0.1", env=env)
    server = int(wait_for(process.stdout, "is process ").split("is process ")[1].split()[0])
    wait_for(process.stdout, "RUNNING")
    process.kill()
    process.communicate()
    assert gone(server, within=60)
    assert cancelled(tmp_path)


def test_a_job_that_is_being_created_ends_with_a_run_that_is_killed(
    env: dict[str, str], tmp_path: Path
) -> None:
    process = started("run", task(tmp_path, seconds=60, slow=1.0), env=env)
    server = int(wait_for(process.stdout, "is process ").split("is process ")[1].split()[0])
    while not list(tmp_path.glob("*.json")):
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert gone(server, within=60)
    assert cancelled(tmp_path)


def test_a_bug_of_the_agents_ends_it_after_a_few_polls_with_the_agents_own_lines(
    env: dict[str, str], tmp_path: Path
) -> None:
    done = flyteagents("run", task(tmp_path, seconds=60, bug=True), "--every", "0.1", env=env)
    assert done.returncode == 1, done.stderr
    assert "the agent has a bug: clocked_job: get raised KeyError: 'no such key'" in done.stdout
    assert "Ctrl-C" not in done.stdout, "nobody has pressed it"
    assert done.stderr.count('cli_agents.py", line') == 1
    assert "_kernel" not in done.stderr
    assert done.stderr.count("server warning") <= 2
    assert cancelled(tmp_path)


@pytest.mark.parametrize(
    ("number", "ending"), [(signal.SIGKILL, "signal SIGKILL"), (signal.SIGTERM, "exit code 0")]
)
def test_a_server_of_our_own_that_dies_ends_it_and_the_job_can_still_be_stopped(
    env: dict[str, str], tmp_path: Path, number: signal.Signals, ending: str
) -> None:
    process = started("run", task(tmp_path, seconds=60), "--every", "0.1", env=env)
    server = int(wait_for(process.stdout, "is process ").split("is process ")[1].split()[0])
    wait_for(process.stdout, "RUNNING")
    os.kill(server, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 69
    said = f"the server that run started has ended ({ending}); the job may run on"
    assert f"no result: {said}" in out
    assert f"stopped answering: {said}; to stop it:" in err
    assert not cancelled(tmp_path)

    command = next(line for line in err.splitlines() if line.startswith("  flyteagents cancel "))
    assert flyteagents(*command.split()[1:], env=env).returncode == 0
    assert cancelled(tmp_path)
