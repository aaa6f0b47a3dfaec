"""With the configuration that `flyteagents propeller-config` prints, tasks outlive an outage."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.interop.conftest import MakePropeller
from tests.interop.propeller import Task
from tests.interop.vendor import VendorService

from flyteagents.testing import RealServer


def printed(server: RealServer) -> str:
    command = [sys.executable, "-m", "flyteagents", "propeller-config"]
    done = subprocess.run(
        [*command, "--endpoint", f"dns:///{server.endpoint}"],
        env=server.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_flytes_own_loader_takes_the_printed_configuration_and_drops_nothing(
    server: RealServer, interop_binary: Path, tmp_path: Path
) -> None:
    file = tmp_path / "propeller.yaml"
    file.write_text(printed(server))
    done = subprocess.run(
        [str(interop_binary), f"-config={file}", "-settings"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    settings = json.loads(done.stdout)
    assert "connector-service" in settings["enabled_plugins"]
    plugin: dict[str, Any] = settings["connector_service"]
    default = plugin["defaultConnector"]
    assert default["endpoint"] == f"dns:///{server.endpoint}"
    assert default["insecure"] is True
    # Keys that the loader lower-cased would be ignored by the plugin without a word.
    known = {"CreateTask", "GetTask", "DeleteTask", "ExecuteTaskSync", "ListConnectors"}
    assert set(default["timeouts"] or {}) <= known
    methods = json.loads(default["defaultServiceConfig"])["methodConfig"]
    assert any(method.get("waitForReady") for method in methods)
    assert plugin["webApi"]["caching"]["maxSystemFailures"] >= 1000


@pytest.mark.slow
def test_a_task_outlives_a_minute_without_any_server_and_as_shipped_it_does_not(
    server: RealServer, vendor: VendorService, make_propeller: MakePropeller
) -> None:
    task = Task(
        "interop_job",
        custom={"script": "sleep 20; return 42"},
        outputs={"result": "integer"},
    )
    settings = yaml.safe_load(printed(server))
    # The others start pods, and there is no Kubernetes here.
    settings["tasks"]["task-plugins"]["enabled-plugins"] = ["connector-service"]
    mended = make_propeller(server.port, settings)
    shipped = make_propeller(server.port)
    for propeller in (mended, shipped):
        propeller.run(task, attempts=3)
        propeller.wait_for("task", phase="RUNNING")
    server.kill()
    time.sleep(62)
    polled = shipped.calls("GetTask")
    server.start()

    mended.wait_for_end("Succeeded", seconds=90)
    assert mended.calls("CreateTask", None) == 1
    assert mended.outputs()["result"].scalar.primitive.integer == 42
    assert len(vendor.jobs(mended.name)) == 1
    # Six failures, and Propeller never asks again: the job is done, and the task runs for ever.
    assert shipped.calls("GetTask", "Unavailable") == 6
    assert shipped.calls("GetTask") == polled
    assert shipped.phases()[-1] == (0, "RUNNING")
    assert [job["state"] for job in vendor.jobs(shipped.name)] == ["DONE"]
