"""The test server answers as Databricks does: databricks-sdk, its own client, understands it."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.databricks.cluster import HERE, RealCluster, need_cluster
from tests.databricks.fake_databricks import FakeDatabricks
from tests.databricks.runs import Plan
from tests.databricks.submits import kept
from tests.databricks.workspace import Workspace


def reference_client(*arguments: str) -> dict[str, Any]:
    """What databricks-sdk saw."""
    command: list[str | Path] = [need_cluster(), HERE / "reference_client.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


async def test_databricks_own_client_understands_every_answer(databricks: FakeDatabricks) -> None:
    databricks.bearers = {"dapi-reference"}
    databricks.principals = {"robot": "the secret"}
    databricks.will("many", Plan(tasks=230))
    databricks.will("forever", Plan(running=math.inf, dies=0.2))
    text = "Workload failed, see run output for details"
    databricks.will(
        "fails",
        Plan(result="FAILED", code="RUN_EXECUTION_ERROR", message=text, error="ValueError: boom"),
    )
    databricks.will("again", Plan(earlier=(Plan(result="FAILED", error="KeyError: first"),)))
    told = await asyncio.to_thread(reference_client, databricks.url, "the secret")
    assert told["same"]
    assert told["state"] == "RunResultState.SUCCESS"
    assert told["status"] == "RunLifecycleStateV2State.TERMINATED"
    assert told["page"].startswith(f"{databricks.url}/?o=7011#job/")
    assert told["tasks"] == 230
    assert told["error"] == "ValueError: boom"
    assert (told["attempts"], told["first"]) == ([0, 1], "KeyError: first")
    assert "RUN_EXECUTION_ERROR" in told["termination"]
    assert told["stopped"] == "RunResultState.CANCELED"
    assert told["missing"] == "ResourceDoesNotExist: Run 5 does not exist."
    assert told["wrong"].startswith("PermissionDenied: Invalid access token.")
    assert told["read"] == "told"
    assert told["me"] == "robot@example.com"


def test_what_the_api_does_not_know_is_dropped() -> None:
    environment = {"client": "1", "environment_vars": {"A": "b"}}
    body = {
        "max_retries": 3,
        "environments": [{"environment_key": "default", "spec": environment}],
        "tasks": [
            {
                "task_key": "one",
                "environment_key": "default",
                "spark_python_task": {"python_file": "/x.py"},
                "colour": "red",
            }
        ],
    }
    run = kept(body, "2.2")
    assert run["environments"] == [{"environment_key": "default", "spec": {"client": "1"}}]
    assert "max_retries" not in run
    assert "colour" not in run["tasks"][0]


def test_a_submitted_file_really_runs_and_is_killed_by_a_cancel() -> None:
    cluster, workspace = RealCluster({}), Workspace()
    source = b"import sys, time; print('began', *sys.argv[1:], flush=True); time.sleep(600)"
    workspace.put("/slow.py", source)
    body = {
        "tasks": [
            {
                "task_key": "one",
                "existing_cluster_id": "0923-1",
                "spark_python_task": {"python_file": "/slow.py", "parameters": ["now"]},
            }
        ]
    }
    work = cluster(kept(body, "2.2"), workspace)
    try:
        end = time.monotonic() + 30
        while "began now" not in work.log:
            assert time.monotonic() < end, work.log
            time.sleep(0.02)
        assert work.ended is None
        work.kill()
        assert work.ended is not None
        assert work.plan().result == "FAILED"
    finally:
        cluster.close()
