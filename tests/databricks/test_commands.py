"""Commands against the test server, as `python -m tests.databricks` runs them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.databricks.cluster import ROOT, need_cluster

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("word", "code", "words"),
    [("nosuchcmd", 1, "nosuchcmd: no such command"), ("--help", 0, "python -m tests.databricks")],
)
def test_what_is_no_command_is_told_in_a_few_words(word: str, code: int, words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.databricks", word],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def told(*module: str, **variables: str) -> str:
    """What `python -m ...` says against a workspace that really runs what is submitted."""
    need_cluster()
    done = subprocess.run(
        [sys.executable, "-m", "tests.databricks", sys.executable, "-m", *module],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_runs_in_one_command() -> None:
    assert "n = 500\ntold = done" in told("flyteagents", "run", "examples/databricks.yaml")


def test_what_is_meant_for_a_real_workspace_is_right_about_the_test_server() -> None:
    live = told("pytest", "-q", "tests/databricks/test_live.py", FLYTEAGENTS_LIVE="1")
    assert "skipped" not in live
