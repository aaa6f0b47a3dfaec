"""Made-up vendors as processes of their own: they go on when our server is killed."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flyteagents.testing import free_port


@contextlib.contextmanager
def made_up(vendor: str, *options: str) -> Iterator[str]:
    """The vendor of `tests/<vendor>`; gives what it prints when it serves."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.{vendor}.fake_{vendor}", *options],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield process.stdout.readline()
    process.terminate()
    with process:
        process.wait()


class VendorService:
    """`python -m flyteagents.testing.serve_jobs` on a free port, with its output in a file."""

    def __init__(self, log: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flyteagents.testing.serve_jobs", "--port", str(port)],
                stdout=output,
                stderr=output,
            )
        until = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < until, "the vendor does not answer"
            time.sleep(0.05)

    def jobs(self, execution: str) -> list[dict[str, Any]]:
        """The jobs that it started for this execution."""
        with urllib.request.urlopen(f"{self.url}/jobs?tag={execution}", timeout=10) as reply:
            found: list[dict[str, Any]] = json.load(reply)["jobs"]
            return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        try:
            self.jobs("nobody")
        except urllib.error.URLError:
            return False
        return True
