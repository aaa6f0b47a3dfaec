"""Pythons that have the Flyte SDKs, which cannot be installed beside one another or beside ours.

`make test` makes them, in `.cache/venvs`, from the locked `requirements/<sdk>.txt`.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Literal

import pytest

Sdk = Literal["flytekit", "flyte-sdk"]

_ROOT = Path(__file__).parents[2]


def sdk_python(sdk: Sdk) -> Path:
    """The Python that has `sdk`. Without one it skips the test, and in CI fails it."""
    place = _ROOT / ".cache" / "venvs" / sdk
    if not (place / "done").exists():
        reason = f"no {sdk} here; `make .cache/venvs/{sdk}/done` installs it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return place / "bin" / "python"


def run_script(sdk: Sdk, script: str, *arguments: str, stdin: str = "") -> list[dict[str, Any]]:
    """Run `tests/sdk/<script>` with the SDK's Python; the JSON lines that it prints."""
    path = Path(__file__).with_name(script)
    # Nothing of the test's own environment: settings of one Flyte must not reach the other.
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "/tmp")}
    done = subprocess.run(
        [sdk_python(sdk), path, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # Both SDKs log to standard output too.
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
