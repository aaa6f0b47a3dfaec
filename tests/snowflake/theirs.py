"""What Snowflake's driver and flyte-sdk's connector, the real ones, send."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


def answers(
    environment: str, script: str, cases: Sequence[tuple[str, Mapping[str, object]]]
) -> list[dict[str, str]]:
    """What a script of this folder prints for the cases, with the Python of an environment.
    Without that it skips the test, and in CI fails it."""
    place = _ROOT / ".cache" / "venvs" / environment
    if not (place / "done").exists():
        reason = f"no {environment} here; `make .cache/venvs/{environment}/done` installs it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run(
        [place / "bin" / "python", Path(__file__).with_name(script)],
        input="".join(f"{case!r}\n" for case in cases),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "/tmp")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return [json.loads(line) for line in lines]
