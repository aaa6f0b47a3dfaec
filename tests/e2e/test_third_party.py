"""`examples/acme`, as an outsider builds, installs and tests it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from flyteagents import Idempotency, Key, Phase
from flyteagents.testing import (
    FakePropeller,
    FlyteTask,
    JobService,
    RealServer,
    Response,
    task_template,
)
from flyteagents.testing.contract import AgentContract, HttpControl, VendorControl

ROOT = Path(__file__).parents[2]
TOKEN = "canary-acme-81b2"


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def build(project: Path, folder: Path) -> Path:
    """Build a project's wheel."""
    pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, project)
    (wheel,) = folder.glob("*.whl")
    return wheel


def acme_task(script: str) -> FlyteTask:
    return task_template("acme_job", custom={"script": script})


def environment(url: str) -> Mapping[str, str]:
    return {"FLYTEAGENTS_ACME_URL": url, "FLYTEAGENTS_SECRET_ACME_TOKEN": TOKEN}


class TestAcme(AgentContract):
    """The wheel is put on the path as it is: its metadata is found there, too."""

    task_type = "acme_job"
    idempotency: ClassVar[Idempotency] = "vendor"
    plugins = ("acme",)
    secret = TOKEN

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def wheel(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.python_path = (build(ROOT / "examples" / "acme", tmp_path_factory.mktemp("acme")),)

    @asynccontextmanager
    async def vendor(self) -> AsyncIterator[VendorControl]:
        async with JobService(token=TOKEN) as service:

            def slow_cancel(seconds: float) -> None:
                service.cancel_seconds = seconds

            def started(key: Key) -> int:
                return service.started[key.hex]

            def live(key: Key) -> int:
                return sum(job.key == key.hex for job in service.live())

            yield HttpControl(
                service,
                submit=("POST", "/jobs"),
                look=("GET", "/jobs/*"),
                cancel=("POST", "/jobs/*/cancel"),
                started=started,
                live=live,
                unknown_state=Response(200, {"state": "HIBERNATING"}),
                slow_cancel=slow_cancel,
            )

    def environment(self, vendor: VendorControl) -> Mapping[str, str]:
        return environment(vendor.url)

    def succeeds(self) -> FlyteTask:
        return acme_task("pending 0.1; sleep 0.2")

    def fails(self) -> FlyteTask:
        return acme_task("fail there is no table t")

    def runs_long(self) -> FlyteTask:
        return acme_task("forever")


@pytest.mark.slow
async def test_its_wheel_and_ours_run_in_an_environment_with_nothing_else(tmp_path: Path) -> None:
    ours = build(ROOT / "core", tmp_path / "core")
    theirs = build(ROOT / "examples" / "acme", tmp_path / "acme")
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    # What the wheels say they need, in the releases that are pinned, so that a new release of a
    # dependency does not fail the test.
    locked = (ROOT / "requirements" / "demo.txt").read_text().splitlines()
    pinned = [line.rstrip("\\ ") for line in locked if "==" in line and line[0].isalnum()]
    (tmp_path / "pinned.txt").write_text("\n".join(pinned))
    pip = (python, "-m", "pip", "-q", "--disable-pip-version-check")
    run(*pip, "install", "-c", tmp_path / "pinned.txt", ours, theirs)
    run(*pip, "check")
    async with (
        JobService(token=TOKEN) as service,
        RealServer(env=environment(service.url), python=python) as server,
    ):
        for generation in (1, 2):
            async with FakePropeller(server.endpoint, generation=generation) as propeller:
                assert propeller.agents == {"acme_job": False}
                outcome = await propeller.run(acme_task("sleep 0.3"), repeats=1)
                assert outcome.phase is Phase.SUCCEEDED, outcome
                assert outcome.failures == []
                failed = await propeller.run(acme_task("fail no such table"), attempts=3)
                assert (failed.phase, failed.attempts) == (Phase.FAILED, 1)
                assert "no such table" in failed.message
        assert len(service.jobs) == 4
