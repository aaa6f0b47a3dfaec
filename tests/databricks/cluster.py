"""Really runs what was submitted: a process of its own for each run, Spark by Sail, no JVM.

The environment is that of `requirements/databricks.txt`: `make .cache/venvs/databricks/done`.
The tasks' own modules (what an image would hold) are in `tests/databricks/image`.

With FLYTEAGENTS_TEST_SPARK=jvm each run has a real Spark in its own process instead, which takes a
JVM and the environment of `requirements/databricks-jvm.txt`: `make spark` does both.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.databricks.runs import Plan
from tests.databricks.submits import variables
from tests.databricks.workspace import Workspace

from flyteagents.testing import free_port

ROOT = Path(__file__).parents[2]
JVM = os.environ.get("FLYTEAGENTS_TEST_SPARK") == "jvm"
"""Whether Spark is the real one, and not Sail."""
ENVIRONMENT = ROOT / ".cache" / "venvs" / ("databricks-jvm" if JVM else "databricks")
LOCAL = "--master local[1] --conf spark.ui.enabled=false pyspark-shell"
HERE = Path(__file__).parent
IMAGE = HERE / "image"
START_LIMIT = 60.0


def missing() -> str:
    """What is missing to run tasks, and how to get it; nothing where nothing is."""
    if not (ENVIRONMENT / "done").exists():
        made = ENVIRONMENT.relative_to(ROOT) / "done"
        return f"nothing to run tasks with; `make {made}` installs it"
    if JVM and shutil.which("java") is None:
        return "real Spark needs a JVM, and there is no java here"
    return ""


def need_cluster() -> Path:
    """The environment's Python; skips the test where there is none, and in CI fails it."""
    if reason := missing():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return ENVIRONMENT / "bin" / "python"


@contextlib.contextmanager
def spark() -> Iterator[dict[str, str]]:
    """What the processes of runs find their Spark by: environment variables."""
    if JVM:
        need_cluster()
        [home] = ENVIRONMENT.glob("lib/python*/site-packages/pyspark")
        # As on a cluster: without SPARK_HOME flytekit takes its driver for a serverless one.
        yield {"PYSPARK_SUBMIT_ARGS": LOCAL, "SPARK_HOME": str(home)}
        return
    with sail() as address:
        # Without SPARK_HOME pyspark-client looks for a JVM's Spark, and ends the process.
        yield {"SPARK_REMOTE": address, "SPARK_HOME": "/databricks/spark"}


@contextlib.contextmanager
def sail() -> Iterator[str]:
    """A Spark Connect server; gives its address."""
    port = free_port()
    script = (
        "import sys; from pysail.spark import SparkConnectServer; "
        f"SparkConnectServer(ip='127.0.0.1', port={port}).start(background=False)"
    )
    process = subprocess.Popen(
        [need_cluster(), "-c", script],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield f"sc://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


class RealCluster:
    """Give it to `FakeDatabricks.cluster`.

    files: contents of what is neither in the workspace nor in git (`dbfs:/x.py`), by path.
    processes: all that were started, the newest last.
    """

    def __init__(self, spark: Mapping[str, str]) -> None:
        self.python = need_cluster()
        self.spark = spark
        self.files: dict[str, bytes] = {}
        self.processes: list[RealWork] = []

    def __call__(self, run: dict[str, Any], workspace: Workspace) -> RealWork:
        task = run["tasks"][0]
        folder = Path(tempfile.mkdtemp(prefix="databricks-run-"))
        notebook = task.get("notebook_task")
        if notebook is not None:
            kind = "notebook"
            path, source = notebook["notebook_path"], notebook.get("source", "WORKSPACE")
            parameters = [json.dumps(notebook.get("base_parameters") or {})]
        else:
            given = task["spark_python_task"]
            path, source = given["python_file"], given.get("source", "WORKSPACE")
            parameters = given.get("parameters") or []
            kind = "serverless" if "environment_key" in task else "python"
        content = self._fetch(path, source, run, workspace)
        file = folder / "submitted.py"
        if content is None:
            work = RealWork(None, folder, f"Cannot read the python file {path}")
        else:
            file.write_bytes(content)
            env = self._env(kind, folder, variables(run, task))
            with (folder / "log").open("wb") as log:
                process = subprocess.Popen(
                    [self.python, HERE / "driver.py", folder / "result", kind, file, *parameters],
                    env=env,
                    cwd=folder,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            work = RealWork(process, folder)
        self.processes.append(work)
        return work

    def close(self) -> None:
        """Kill what still runs."""
        for work in self.processes:
            work.kill()
            shutil.rmtree(work.folder, ignore_errors=True)

    def _fetch(
        self, path: str, source: str, run: Mapping[str, Any], workspace: Workspace
    ) -> bytes | None:
        if source == "GIT":
            git = run["git_source"]
            commit = git.get("git_commit") or git.get("git_branch") or git.get("git_tag")
            show = subprocess.run(
                [
                    "git",
                    "--git-dir",
                    git["git_url"].removeprefix("file://"),
                    "show",
                    f"{commit}:{path}",
                ],
                capture_output=True,
                check=False,
            )
            return show.stdout if show.returncode == 0 else None
        return self.files.get(path) or workspace.read(path)

    def _env(self, kind: str, folder: Path, given: Mapping[str, str]) -> dict[str, str]:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "PYTHONPATH": str(IMAGE),
            "DATABRICKS_RUNTIME_VERSION": "client.5.0" if kind == "serverless" else "16.4",
        }
        return {**env, **self.spark, **given}


class RealWork:
    """The process of one run, or `broken`: why there is none."""

    def __init__(
        self, process: subprocess.Popen[bytes] | None, folder: Path, broken: str = ""
    ) -> None:
        self.process = process
        self.folder = folder
        self.broken = broken
        self.ended: float | None = time.time() if process is None else None
        if process is not None:
            threading.Thread(target=self._watch, args=(process,), daemon=True).start()

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def plan(self) -> Plan:
        if self.broken:
            return Plan(
                end="INTERNAL_ERROR",
                code="RESOURCE_NOT_FOUND",
                type="CLIENT_ERROR",
                message=self.broken,
            )
        try:
            told = json.loads((self.folder / "result").read_text())
        except (OSError, ValueError):
            text = "The Python process exited with no result (DRIVER_ERROR)"
            return Plan(result="FAILED", code="DRIVER_ERROR", type="INTERNAL_ERROR", message=text)
        failed = told["result"] == "FAILED"
        return Plan(
            result=told["result"],
            code="RUN_EXECUTION_ERROR" if failed else "SUCCESS",
            type="CLIENT_ERROR" if failed else "SUCCESS",
            message="Workload failed, see run output for details" if failed else "",
            error=told.get("error", ""),
            trace=told.get("trace", ""),
            logs=self.log[-(5 << 20) :],
            exit=told.get("exit"),
        )

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.ended = self.ended or time.time()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self.ended = self.ended or time.time()
