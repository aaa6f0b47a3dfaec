"""The command line as a process, with the plugins that are beside this file."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

AGENTS = Path(__file__).with_name("cli_agents")
JOBS = "FLYTEAGENTS_CLOCKED_DIRECTORY"
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


def environment(**variables: str) -> dict[str, str]:
    """Variables for a command: the plugin `clocked`, and none of this process's settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLYTEAGENTS_", "OTEL_"))}
    path = os.pathsep.join(filter(None, [str(AGENTS), kept.get("PYTHONPATH")]))
    apart = {"XDG_CACHE_HOME": str(Path(tempfile.gettempdir()) / "flyteagents-tests")}
    ours = {"PYTHONPATH": path, "FLYTEAGENTS_PLUGINS": "clocked"}
    return {**kept, **apart, **ours, **variables}


def started(
    *arguments: str, env: Mapping[str, str] | None = None, **pipes: Any
) -> subprocess.Popen[str]:
    """`flyteagents <arguments>`, under way."""
    return subprocess.Popen(
        [sys.executable, "-m", "flyteagents", *arguments],
        env=environment() if env is None else env,
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **pipes},
    )


def flyteagents(
    *arguments: str, env: Mapping[str, str] | None = None, feed: str | None = None
) -> subprocess.CompletedProcess[str]:
    """`flyteagents <arguments>`, ended."""
    return subprocess.run(
        [sys.executable, "-m", "flyteagents", *arguments],
        env=environment() if env is None else env,
        input=feed,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON document that a command printed."""
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def on_terminal(
    *arguments: str, env: Mapping[str, str] | None = None, columns: int = 100
) -> tuple[int, str]:
    """The exit code of `flyteagents <arguments>` at a terminal, and what it wrote there."""
    ours, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "flyteagents", *arguments],
        env={**(environment() if env is None else env), "COLUMNS": str(columns)},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    text = everything(ours)
    return process.wait(60), text


def everything(terminal: int) -> str:
    """All that is written to a terminal, until its other side is closed."""
    parts = []
    while True:
        try:
            parts.append(os.read(terminal, 65536))
        except OSError:  # how Linux says it
            os.close(terminal)
            return b"".join(parts).decode()


def task(folder: Path, retries: int = 0, timeout: str = "", **custom: Any) -> str:
    file = folder / "task.yaml"
    written = TASK.format(custom=json.dumps({"outputs": {"total": 42}, **custom}), retries=retries)
    file.write_text(written + (f"timeout: {timeout}\n" if timeout else ""))
    return str(file)


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


def drawn(tree: str, span: str) -> int:
    """How many spans of this name a drawn trace says there are."""
    return sum(int(count or 1) for count in re.findall(rf"{span}(?: x (\d+))?  ", tree))


def cancelled(folder: Path) -> bool:
    (job,) = (json.loads(file.read_text()) for file in folder.glob("*.json"))
    return bool(job.get("cancelled"))


def self_signed(folder: Path) -> tuple[str, str]:
    certificate, key = str(folder / "cert.pem"), str(folder / "key.pem")
    made = f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -keyout {key} -out {certificate}"
    subprocess.run(
        [*made.split(), "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True,
        capture_output=True,
    )
    return certificate, key
