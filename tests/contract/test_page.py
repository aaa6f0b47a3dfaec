"""The worked example of docs/contract.md runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def example() -> str:
    page = (ROOT / "docs" / "contract.md").read_text()
    source, _ = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    return str(source)


@pytest.mark.slow
def test_the_example_passes_and_skips_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_acme.py").write_text(example())
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert "skipped" not in done.stdout
