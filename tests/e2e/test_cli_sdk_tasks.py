"""`flyteagents run` takes what the real SDKs serialize."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.command import document, environment, flyteagents
from tests.sdk.environments import Sdk
from tests.sdk.templates import SDKS, authored

from flyteagents._cli.task_file import read_task


@pytest.mark.slow
@pytest.mark.parametrize("sdk", SDKS)
def test_a_template_of_an_sdk_is_read_and_runs(sdk: Sdk, tmp_path: Path) -> None:
    file = tmp_path / "task.pb"
    for name, task in authored(sdk).items():
        file.write_bytes(task.template_bytes)
        assert read_task(file).task.template == task.template, name
    file.write_bytes(authored(sdk)["duckdb scalars"].template_bytes)
    env = environment(FLYTEAGENTS_PLUGINS="duckdb", FLYTEAGENTS_DUCKDB_DATA_DIR=str(tmp_path))
    generation = ["--flyte2"] if sdk == "flyte-sdk" else []
    done = flyteagents("run", str(file), "-i", "rows=1000", "--json", *generation, env=env)
    assert done.returncode == 0, done.stderr
    assert document(done)["outputs"]["n"] == 1000
