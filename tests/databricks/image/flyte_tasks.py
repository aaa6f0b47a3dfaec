"""Tasks as a user writes them with flyte-sdk; the image of their runs holds this module."""

# mypy: disable-error-code="import-not-found, import-untyped, misc, untyped-decorator"
from __future__ import annotations

import os

import endings
import flyte
import flyte.errors
from flyteplugins.databricks import Databricks

HOST = "my-workspace.cloud.databricks.com"
TOKEN = "databricks-key"
NEW = Databricks(
    spark_conf={"spark.speculation": "true"},
    databricks_conf={
        "run_name": "a new cluster",
        "new_cluster": {"spark_version": "16.4.x-scala2.12", "num_workers": 2},
    },
    databricks_instance=HOST,
    databricks_token=TOKEN,
)
EXISTING = Databricks(
    databricks_conf={"existing_cluster_id": "0923-164208-meows279"},
    databricks_instance=HOST,
    databricks_token=TOKEN,
)
SERVERLESS = Databricks(
    databricks_conf={
        "environment_key": "default",
        "environments": [{"environment_key": "default", "spec": {"environment_version": "5"}}],
    },
    databricks_instance=HOST,
    databricks_token=TOKEN,
)
new = flyte.TaskEnvironment("new", plugin_config=NEW, image="image:v1", env_vars={"COLOUR": "red"})
existing = flyte.TaskEnvironment(
    "existing", plugin_config=EXISTING, image="image:v1", env_vars={"COLOUR": "red"}
)

serverless = flyte.TaskEnvironment(
    "serverless", plugin_config=SERVERLESS, image="image:v1", env_vars={"COLOUR": "red"}
)


def added_up(rows: int) -> tuple[int, str]:
    session = flyte.ctx().data["spark_session"]
    total = sum(row.id for row in session.range(rows).collect())
    return total, f"{os.environ.get('COLOUR')} {flyte.ctx().action.run_name}"


@new.task
async def sums_on_new(rows: int) -> tuple[int, str]:
    return added_up(rows)


@existing.task
async def sums_on_existing(rows: int) -> tuple[int, str]:
    return added_up(rows)


@serverless.task
async def sums_on_serverless(rows: int) -> tuple[int, str]:
    return added_up(rows)


@new.task
async def raises_on_new(rows: int) -> int:
    raise ValueError(f"no rows like {rows}")


@existing.task
async def raises_on_existing(rows: int) -> int:
    raise ValueError(f"no rows like {rows}")


@new.task
async def raises_without_outputs_on_new(rows: int) -> None:
    raise ValueError(f"no rows like {rows}")


@existing.task
async def raises_without_outputs_on_existing(rows: int) -> None:
    raise ValueError(f"no rows like {rows}")


@serverless.task
async def raises_on_serverless(rows: int) -> int:
    raise ValueError(f"no rows like {rows}")


@serverless.task
async def raises_without_outputs_on_serverless(rows: int) -> None:
    raise ValueError(f"no rows like {rows}")


@existing.task
async def ends_on_existing(rows: int) -> None:
    endings.end(rows)


TASKS = [value for value in list(globals().values()) if hasattr(value, "task_type")]
VALUES = {"rows": 5}
