"""`flyteagents run` passes on what the server that it starts warns of."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.command import JOBS, document, environment, everything, flyteagents

COMPLAINT = "the clock is slow"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(**{JOBS: str(tmp_path), "TMPDIR": str(tmp_path)})


@pytest.fixture
def task(tmp_path: Path) -> str:
    file = tmp_path / "task.yaml"
    custom = json.dumps({"complaint": COMPLAINT, "seconds": 2})
    file.write_text(f"task_type: clocked_job\ncustom: {custom}\n")
    return str(file)


def test_warnings_and_errors_are_on_stderr_once_each(env: dict[str, str], task: str) -> None:
    env |= {
        "FLYTEAGENTS_CLOCKED_MODE": "x",
        "FLYTEAGENTS_PLUGINS": "clocked,broken",
        "FLYTEAGENTS_ON_BROKEN_PLUGIN": "skip",
    }
    done = flyteagents("run", task, "--every", "0.1", "--json", env=env)
    assert done.returncode == 0, done.stderr
    assert document(done)["phase"] == "SUCCEEDED"
    unknown = "nothing reads the variable FLYTEAGENTS_CLOCKED_MODE"
    assert done.stderr.count(f"server warning: {unknown}; did you mean") == 1
    assert done.stderr.count("server error: starting without plugin broken") == 1
    assert done.stderr.count(COMPLAINT) == 1
    assert "serves clocked_job" not in done.stderr  # an INFO line


def test_the_whole_log_is_text_and_there_for_the_asking(env: dict[str, str], task: str) -> None:
    done = flyteagents("run", task, "--every", "0.1", "--verbose", env=env)
    assert done.returncode == 0, done.stderr
    assert "INFO flyteagents: " in done.stderr
    assert done.stderr.count(COMPLAINT) > 1


def test_a_server_that_cannot_start_says_why_once(env: dict[str, str], task: str) -> None:
    done = flyteagents("run", task, env={**env, "FLYTEAGENTS_PLUGINS": "broken"})
    assert done.returncode == 78
    assert done.stderr.count("module_that_is_not_there") == 1


@pytest.mark.parametrize("apart", [False, True], ids=["on the terminal", "to a file"])
def test_a_warning_leaves_the_live_line_alone(
    env: dict[str, str], task: str, tmp_path: Path, apart: bool
) -> None:
    ours, terminal = pty.openpty()
    file = tmp_path / "stderr"
    with file.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "flyteagents", "run", task, "--every", "0.1"],
            env={**env, "TERM": "xterm", "COLUMNS": "100"},
            stdin=terminal,
            stdout=terminal,
            stderr=errors if apart else terminal,
        )
    os.close(terminal)
    shown = everything(ours)
    assert process.wait(60) == 0, shown
    assert "SUCCEEDED" in shown
    assert shown.count(COMPLAINT) == (0 if apart else 1)
    if apart:
        (line,) = file.read_text().splitlines()
    else:
        (line,) = (line for line in shown.splitlines() if COMPLAINT in line)
    assert line.rpartition("\x1b[2K")[2].removeprefix("\x1b[33m").startswith("server warning: ")
