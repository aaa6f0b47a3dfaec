"""The made-up vendor as a process of its own: it goes on when our server is killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from flyteagents.testing import free_port


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
