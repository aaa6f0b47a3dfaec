"""A real workspace, with your own credentials: what the made-up one cannot say.

    FLYTEAGENTS_LIVE=1 FLYTE_DATABRICKS_INSTANCE=my.cloud.databricks.com DATABRICKS_TOKEN=... \
        pytest tests/databricks/test_live.py

It puts a folder `.flyteagents` into your home, and runs some seconds of serverless compute.
"""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.databricks.driving import SERVERLESS, Driver

from flyteagents import JobNotFound, Kind, Phase, Status, Type
from flyteagents_databricks.job import DatabricksJob

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        os.environ.get("FLYTEAGENTS_LIVE") != "1",
        reason="a real workspace: set FLYTEAGENTS_LIVE=1",
    ),
]
RUN = secrets.token_hex(6)
CONF = {**SERVERLESS, "run_name": f"flyteagents live {RUN}"}


@pytest.fixture
async def live() -> AsyncIterator[Driver]:
    # An address is that of a private link, or of the test server.
    async with Driver(os.environ.get("FLYTEAGENTS_DATABRICKS_URL")).opened() as driver:
        yield driver


def own() -> dict[str, Any]:
    return {"databricksInstance": os.environ["FLYTE_DATABRICKS_INSTANCE"]}


async def placed(live: Driver, name: str, source: str, notebook: bool) -> str:
    """A file or a notebook in one's home; its path."""
    http = live.call("check", None, seconds=30.0).http
    me = (await http.get("/api/2.0/preview/scim/v2/Me")).json()["userName"]
    folder = f"/Workspace/Users/{me}/.flyteagents"
    await http.post("/api/2.0/workspace/mkdirs", json={"path": folder})
    body: dict[str, Any] = {
        "path": f"{folder}/{name}",
        "format": "SOURCE" if notebook else "AUTO",
        "content": base64.b64encode(source.encode()).decode(),
        "overwrite": True,
    }
    if notebook:
        body["language"] = "PYTHON"
    await http.post("/api/2.0/workspace/import", json=body)
    return f"{folder}/{name}"


async def ended(live: Driver, job: DatabricksJob, declared: Any = None) -> Status:
    end = time.monotonic() + 900
    while True:
        status = await live.get(job, declared=declared, seconds=30.0)
        if status.phase is not None and status.phase.terminal:
            return status
        assert time.monotonic() < end, status
        await asyncio.sleep(5)


async def test_a_notebook_runs_to_its_outputs_and_a_repeat_finds_it(live: Driver) -> None:
    source = "import json\ndbutils.notebook.exit(json.dumps({'n': int(dbutils.widgets.get('n'))}))"
    path = await placed(live, f"notebook-{RUN}", source, notebook=True)
    task = live.task(CONF, execution=f"{RUN}n", inputs={"n": 3}, notebookPath=path, **own())
    job = await live.create(task, seconds=60.0)
    assert await live.create(task, seconds=60.0) == job
    assert job.page is not None
    status = await ended(live, job, {"n": Type(Kind.INTEGER)})
    assert (status.phase, status.outputs) == (Phase.SUCCEEDED, {"n": 3}), status


async def test_a_file_that_raises_fails_with_its_own_words(live: Driver) -> None:
    path = await placed(live, f"raises-{RUN}.py", "raise ValueError('no such rows')", False)
    task = live.task({**CONF, "python_file": path}, execution=f"{RUN}r", **own())
    status = await ended(live, await live.create(task, seconds=60.0))
    assert status.phase is Phase.RETRYABLE_FAILED
    assert "no such rows" in (status.message or "")


async def test_the_entrypoint_is_delivered_and_a_running_run_is_stopped(live: Driver) -> None:
    job = await live.create(live.task(CONF, execution=f"{RUN}e", **own()), seconds=60.0)
    await live.cancel(job, seconds=30.0)
    assert (await ended(live, job)).phase in (Phase.ABORTED, Phase.RETRYABLE_FAILED, Phase.FAILED)
    await live.cancel(job, seconds=30.0)


async def test_a_run_that_is_not_there_is_not_found(live: Driver) -> None:
    host = os.environ["FLYTE_DATABRICKS_INSTANCE"]
    with pytest.raises(JobNotFound):
        await live.get(DatabricksJob(databricks_instance=host, run_id="1"), seconds=30.0)
