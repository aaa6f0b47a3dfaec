"""Runs a command against a made-up workspace that really runs notebooks and files, on Sail:
`python -m tests.databricks .venv/bin/flyteagents run examples/databricks.yaml`.

With FLYTEAGENTS_TEST_SPARK=jvm it is real Spark (see cluster.py).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys

from tests.databricks.cluster import RealCluster, missing, spark
from tests.databricks.fake_databricks import FakeDatabricks

NOTEBOOKS = {
    "/Users/me@example.com/flyteagents-example": b"""# Databricks notebook source
import json
rows = int(dbutils.widgets.get("rows"))
dbutils.notebook.exit(json.dumps({"n": spark.range(rows).count(), "told": "done"}))
"""
}
"""What lies in the workspace: the notebooks of the examples."""


async def main(command: list[str]) -> int:
    with spark() as found:
        cluster = RealCluster(found)
        async with FakeDatabricks() as databricks:
            databricks.cluster = cluster
            for path, source in NOTEBOOKS.items():
                databricks.workspace.put(path, source)
            variables = {
                "FLYTEAGENTS_DATABRICKS_URL": databricks.url,
                "FLYTE_DATABRICKS_INSTANCE": "my-workspace.cloud.databricks.com",
                "FLYTEAGENTS_SECRET_DATABRICKS_TOKEN": "anything",
            }
            process = await asyncio.create_subprocess_exec(*command, env=os.environ | variables)
            try:
                return await process.wait()
            finally:
                cluster.close()


if __name__ == "__main__":
    if not sys.argv[1:]:
        raise SystemExit(__doc__)
    if sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        raise SystemExit
    # Before Spark starts, which takes its time.
    if shutil.which(sys.argv[1]) is None:
        raise SystemExit(f"{sys.argv[1]}: no such command; say what to run against the workspace")
    if reason := missing():
        raise SystemExit(reason)
    raise SystemExit(asyncio.run(main(sys.argv[1:])))
