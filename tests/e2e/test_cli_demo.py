"""What `make demo` runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.command import drawn

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


def start(folder: Path) -> subprocess.Popen[str]:
    """With `folder`/temporary for what goes away, and `folder`/result for what stays."""
    temporary = folder / "temporary"
    temporary.mkdir()
    return subprocess.Popen(
        [sys.executable, str(DEMO), str(folder / "result")],
        env={
            **os.environ,
            "TMPDIR": str(temporary),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "FLYTEAGENTS_PORT": "not for the demo",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_the_demo_runs_a_query_shows_its_trace_and_leaves_its_result(tmp_path: Path) -> None:
    process = start(tmp_path)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert "336,776 flights" in out
    assert re.search(r"s  RUNNING +\d+%", out)
    assert "after_a_late_flight" in out  # the result table
    assert re.search(r"^peak memory bytes +[\d.]+ MiB", out, re.MULTILINE)
    assert drawn(out, "AsyncAgentService/CreateTask") == 1
    assert drawn(out, "AsyncAgentService/GetTask") >= 3
    assert out.count("AsyncAgentService/GetTask") <= 5, "polls that look alike share a line"
    assert "job duckdb_query" in out
    assert "the server got SIGTERM and ended with exit code 0" in out
    assert nothing_left(out, tmp_path)
    assert not (tmp_path / "cache").exists(), "the last run is still the user's own"
    given = re.search(r"^\$ .* --input flights=(\S+) --trace", out, re.MULTILINE)
    assert given is not None
    assert Path(given[1]).stat().st_size > 1 << 20, "what is shown can be run again"
    shown = re.search(r"^results = (\S+)", out, re.MULTILINE)
    assert shown is not None
    assert Path(shown[1]).is_relative_to(tmp_path / "result")
    [file] = Path(shown[1]).glob("*.parquet")
    assert file.read_bytes().startswith(b"PAR1")


@pytest.mark.slow
def test_a_demo_that_is_stopped_cancels_its_job_and_leaves_nothing(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.stdout is not None
    out = ""
    for line in process.stdout:
        out += line
        if "RUNNING" in line:
            break
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert "the job was cancelled" in rest
    assert nothing_left(out + rest, tmp_path)


def nothing_left(out: str, folder: Path) -> bool:
    """No process of the server's, none that knows the folder, and nothing temporary."""
    server = re.search(r"is process (\d+)", out)
    assert server is not None
    commands = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(file.read_bytes())
        except OSError:
            continue
    left = [command for command in commands if str(folder).encode() in command]
    return (
        not left
        and not Path(f"/proc/{server[1]}").exists()
        and not list((folder / "temporary").iterdir())
    )
