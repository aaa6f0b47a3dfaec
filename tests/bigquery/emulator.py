"""A BigQuery emulator that runs SQL, local-bigquery, as a real server with a Python of its own.

It needs Python 3.13; `make .cache/venvs/local-bigquery/done` installs it where that is. It is used
wherever it is faithful: jobs, duplicates, parameters, SQL, scripts, failures and cancels. It knows
one location, no statistics and no rejected credentials; for those there is fake_bigquery.py.

`python -m tests.bigquery.emulator --port 9050` serves it by itself, and with a command behind it
runs that one with `BIGQUERY_EMULATOR_HOST` set, and stops.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyteagents.testing import free_port

ENVIRONMENT = Path(__file__).parents[2] / ".cache" / "venvs" / "local-bigquery"
START_LIMIT = 40.0


def missing() -> str | None:
    """Why there is no emulator here; None where there is one."""
    if (ENVIRONMENT / "done").exists():
        return None
    return (
        "no BigQuery emulator here; with Python 3.13, "
        "`make .cache/venvs/local-bigquery/done` installs it"
    )


def need_emulator() -> None:
    """Skips the test where there is no emulator."""
    if reason := missing():
        pytest.skip(reason)


@contextlib.contextmanager
def emulator(port: int | None = None) -> Iterator[str]:
    """A running emulator with no data; gives its URL."""
    with tempfile.TemporaryDirectory(prefix="local-bigquery-") as folder:
        home, data = Path(folder, "home"), Path(folder, "data")
        _place_extensions(home)
        data.mkdir()
        chosen = port or free_port()
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    ENVIRONMENT / "bin" / "local-bigquery",
                    "serve",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    str(chosen),
                    "--grpc-port",
                    str(free_port()),
                    "--data-dir",
                    str(data),
                ],
                env={"HOME": str(home), "PATH": os.environ.get("PATH", "")},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            url = f"http://127.0.0.1:{chosen}"
            _until_ready(process, url, log)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _place_extensions(home: Path) -> None:
    """DuckDB would download its extensions; packages have them, and it looks for them here."""
    script = "import duckdb; print(duckdb.__version__, *duckdb.sql('PRAGMA platform').fetchone())"
    found = subprocess.run(
        [ENVIRONMENT / "bin" / "python", "-c", script], capture_output=True, text=True, check=True
    )
    version, platform = found.stdout.split()
    folder = home / ".duckdb" / "extensions" / f"v{version}" / platform
    folder.mkdir(parents=True)
    packages = "lib/python3.13/site-packages/duckdb_extension_*/extensions/*/*.duckdb_extension"
    for extension in ENVIRONMENT.glob(packages):
        (folder / extension.name).symlink_to(extension)


def _until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_LIMIT
    while True:
        try:
            with urllib.request.urlopen(f"{url}/bigquery/v2/projects", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > end:
                text = log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"the emulator did not start:\n{text}") from None
            time.sleep(0.1)


def _main() -> int:
    parser = argparse.ArgumentParser(description="Serves the BigQuery emulator.")
    parser.add_argument("--port", type=int, help="a free one, unless it is named")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run against it")
    options = parser.parse_args()
    if reason := missing():
        raise SystemExit(reason)
    with emulator(options.port) as url:
        variables = {"BIGQUERY_EMULATOR_HOST": url, "GOOGLE_CLOUD_PROJECT": "local"}
        if options.command:
            return subprocess.run(
                options.command, env={**os.environ, **variables}, check=False
            ).returncode
        print(" ".join(f"{name}={value}" for name, value in variables.items()), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
