"""`flyteagents run` plays FlytePropeller against a real server."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import IO, Any

import pytest
from tests.e2e.command import AGENTS, JOBS, document, environment, flyteagents, started

from flyteagents.testing import RealServer

TASK = """
task_type: clocked_job
custom: {custom}
inputs:
  month: integer
  note: string?
outputs:
  total: integer
  inputs: struct
values: {{month: 7}}
retries: {retries}
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(**{JOBS: str(tmp_path), "TMPDIR": str(tmp_path)})


def task(folder: Path, retries: int = 0, timeout: str = "", **custom: Any) -> str:
    file = folder / "task.yaml"
    written = TASK.format(custom=json.dumps({"outputs": {"total": 42}, **custom}), retries=retries)
    file.write_text(written + (f"timeout: {timeout}\n" if timeout else ""))
    return str(file)


@pytest.mark.parametrize("generation", [(), ("--flyte2",)], ids=["flyte1", "flyte2"])
def test_a_task_succeeds_with_its_outputs_links_and_info(
    env: dict[str, str], tmp_path: Path, generation: tuple[str, ...]
) -> None:
    done = flyteagents(
        "run",
        task(tmp_path, seconds=0.3),
        "-i",
        "month=8",
        "--every",
        "0.1",
        "--json",
        *generation,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    said = document(done)
    assert said["phase"] == "SUCCEEDED"
    assert said["outputs"] == {"total": 42, "inputs": {"month": "8", "note": "None"}}
    assert said["links"][0]["name"] == "Clock"
    assert said["info"] == {"bytes_read": 2048, "progress": 1, "rows": 1200}
    assert said["output_prefix"].endswith("/1" if generation else "/0")
    assert "RUNNING" in done.stderr


def test_the_trace_is_drawn_from_what_the_server_sent(env: dict[str, str], tmp_path: Path) -> None:
    done = flyteagents("run", task(tmp_path, seconds=0.4), "--trace", "--every", "0.1", env=env)
    assert done.returncode == 0, done.stderr
    root = next(line for line in done.stdout.splitlines() if "job clocked_job" in line)
    assert "SUCCEEDED" in root
    assert "1,200 rows" in root
    assert done.stdout.count("AsyncAgentService/CreateTask") == 1
    assert done.stdout.count("AsyncAgentService/GetTask") >= 4
    assert done.stdout.count("get clocked_job") >= 4
    assert "total = 42" in done.stdout
    assert "ended with exit code 0" in done.stdout


def test_the_exit_code_tells_a_failure_from_one_that_may_pass(
    env: dict[str, str], tmp_path: Path
) -> None:
    failed = flyteagents("run", task(tmp_path, fail="no such table"), env=env)
    assert failed.returncode == 1
    assert "no such table" in failed.stdout
    again = flyteagents("run", task(tmp_path, fail="overloaded", again=True), env=env)
    assert again.returncode == 2


def test_retries_are_attempts_of_their_own(env: dict[str, str], tmp_path: Path) -> None:
    file = task(tmp_path, retries=2, fail="overloaded", again=True)
    done = flyteagents("run", file, "--json", "--every", "0.1", env=env)
    assert done.returncode == 2
    attempts = document(done)["attempts"]
    assert [attempt["phase"] for attempt in attempts] == ["RETRYABLE_FAILED"] * 3
    assert len(list(tmp_path.glob("*.json"))) == 3
    assert flyteagents("run", file, "--attempts", "1", env=env).stdout.count("overloaded") == 1


def test_the_same_prefix_again_is_the_same_attempt(env: dict[str, str], tmp_path: Path) -> None:
    command = ("run", task(tmp_path), "--output-prefix", str(tmp_path / "out"), "--json")
    first, second = (document(flyteagents(*command, env=env)) for _ in range(2))
    assert first["job"]["job"] == second["job"]["job"]
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_a_task_that_passes_its_timeout_is_cancelled(env: dict[str, str], tmp_path: Path) -> None:
    file = task(tmp_path, timeout="0.5s", seconds=60)
    done = flyteagents("run", file, "--every", "0.1", env=env)
    assert done.returncode == 2
    assert "timeout of 0.5 s" in done.stdout
    assert cancelled(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cancels_the_job_and_stops_the_server(
    env: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    process = started("run", task(tmp_path, seconds=60), "--every", "0.1", "--json", env=env)
    server = int(wait_for(process.stderr, "is process ").split("is process ")[1].split()[0])
    wait_for(process.stderr, "RUNNING")
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert json.loads(out)["cancelled"]
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
    out, err = process.communicate(timeout=30)
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
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert time.monotonic() - began < 2
    assert "the job may run on" in err
    assert gone(server, within=20)


def test_an_interrupt_before_there_is_a_job_is_130_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        endpoint = f"127.0.0.1:{mute.getsockname()[1]}"
        process = started("run", task(tmp_path), "--endpoint", endpoint)
        connection, _ = mute.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "flyteagents: interrupted\n"


def test_a_sync_agent_is_called_as_propeller_would(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "sum.yaml"
    file.write_text(
        "task_type: clocked_sum\ninputs: {a: integer, b: integer}\noutputs: {sum: integer}\n"
    )
    for generation in ((), ("--flyte2",)):
        done = flyteagents("run", str(file), "-i", "a=2", "-i", "b=40", *generation, env=env)
        assert done.returncode == 0, done.stderr
        assert "sum = 42" in done.stdout


def test_a_running_server_is_used_and_left_running(tmp_path: Path) -> None:
    with RealServer(["clocked"], {JOBS: str(tmp_path)}, [AGENTS]) as server:
        done = flyteagents("run", task(tmp_path), "--endpoint", server.endpoint, "--json")
        assert done.returncode == 0, done.stderr
        assert document(done)["outputs"]["total"] == 42
        assert server.serving()
    gone = flyteagents("run", task(tmp_path), "--endpoint", server.endpoint)
    assert gone.returncode == 69
    assert "--endpoint" in gone.stderr


def test_a_server_that_is_restarted_is_waited_for(tmp_path: Path) -> None:
    with RealServer(["clocked"], {JOBS: str(tmp_path)}, [AGENTS]) as server:
        arguments = ("--endpoint", server.endpoint, "--every", "0.1")
        process = started("run", task(tmp_path, seconds=2), *arguments)
        wait_for(process.stdout, "RUNNING")
        server.kill()
        server.start()
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "UNAVAILABLE" in out
    assert "SUCCEEDED" in out


def test_a_server_of_our_own_that_dies_ends_it(env: dict[str, str], tmp_path: Path) -> None:
    process = started("run", task(tmp_path, seconds=60), "--every", "0.1", env=env)
    server = int(wait_for(process.stdout, "is process ").split("is process ")[1].split()[0])
    wait_for(process.stdout, "RUNNING")
    os.kill(server, signal.SIGKILL)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 69
    assert "stopped answering" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-i", "month=may"], ["month", "integer", "may"]),
        (["-i", "moth=5"], ["moth", "month: integer"]),
        (["-i", "month"], ["name=value"]),
        (["--trace", "--endpoint", "localhost:1"], ["--trace"]),
        (["--nonsense"], ["--nonsense"]),
    ],
)
def test_wrong_usage_is_64_and_says_what_is_expected(
    tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    done = flyteagents("run", task(tmp_path), *arguments)
    assert done.returncode == 64
    for word in words:
        assert word in done.stderr


def test_what_cannot_be_served_says_what_to_do(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("task_type: other\n")
    unserved = flyteagents("run", str(file), env=env)
    assert unserved.returncode == 78
    assert "clocked_job" in unserved.stderr
    broken = flyteagents("run", str(file), env={**env, "FLYTEAGENTS_PLUGINS": "missing"})
    assert broken.returncode == 78
    assert "no installed package offers it" in broken.stderr
    assert flyteagents("run", str(tmp_path / "nothing.yaml"), env=env).returncode == 65


def test_the_meta_that_run_prints_can_be_inspected(env: dict[str, str], tmp_path: Path) -> None:
    said = document(flyteagents("run", task(tmp_path), "--json", env=env))
    done = flyteagents("inspect", "-", env=env, feed=said["resource_meta"])
    assert done.returncode == 0, done.stderr
    for words in ("clocked_job of cli-agents 1.0", said["job"]["key"], "output total", "integer"):
        assert words in done.stdout


def test_nothing_is_left_where_a_task_wrote_nothing(env: dict[str, str], tmp_path: Path) -> None:
    flyteagents("run", task(tmp_path), env=env)
    assert not list(tmp_path.glob("flyteagents-*"))


def gone(pid: int, within: float) -> bool:
    end = time.monotonic() + within
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    return not Path(f"/proc/{pid}").exists()


def wait_for(pipe: IO[str] | None, words: str) -> str:
    """The first line with these words."""
    assert pipe is not None
    seen = []
    for line in pipe:
        seen.append(line)
        if words in line:
            return line
    raise AssertionError(f"no {words!r} in {seen}")


def cancelled(folder: Path) -> bool:
    (job,) = (json.loads(file.read_text()) for file in folder.glob("*.json"))
    return bool(job.get("cancelled"))
