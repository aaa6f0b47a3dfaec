"""The command line as a process, with the plugins that are beside this file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

AGENTS = Path(__file__).with_name("cli_agents")
JOBS = "FLYTEAGENTS_CLOCKED_DIRECTORY"


def environment(**variables: str) -> dict[str, str]:
    """Variables for a command: the plugin `clocked`, and none of this process's settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLYTEAGENTS_", "OTEL_"))}
    path = os.pathsep.join(filter(None, [str(AGENTS), kept.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, "FLYTEAGENTS_PLUGINS": "clocked", **variables}


def started(
    *arguments: str, env: Mapping[str, str] | None = None, **pipes: Any
) -> subprocess.Popen[str]:
    """`flyteagents <arguments>`, under way."""
    return subprocess.Popen(
        [sys.executable, "-m", "flyteagents", *arguments],
        env=environment() if env is None else env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **pipes,
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
        timeout=60,
        check=False,
    )


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON document that a command printed."""
    value: dict[str, Any] = json.loads(done.stdout)
    return value
