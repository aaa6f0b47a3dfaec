"""Tasks as a user writes them with flytekit; the image of their runs holds this module.

Each does the same on a new cluster, on an existing one and on serverless compute.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc, untyped-decorator"
from __future__ import annotations

import os
import typing

import endings
import flytekit
from flytekit import task
from flytekit.exceptions.user import FlyteRecoverableException
from flytekitplugins.spark import Databricks, DatabricksV2

HOST = "my-workspace.cloud.databricks.com"
NEW = DatabricksV2(
    spark_conf={"spark.speculation": "true"},
    databricks_conf={
        "run_name": "a new cluster",
        "new_cluster": {
            "spark_version": "16.4.x-scala2.12",
            "node_type_id": "m5.xlarge",
            "num_workers": 2,
            "spark_env_vars": {"MINE": "kept"},
        },
        "timeout_seconds": 3600,
        "max_retries": 1,
    },
    databricks_instance=HOST,
)
EXISTING = DatabricksV2(
    databricks_conf={"run_name": "existing", "existing_cluster_id": "0923-164208-meows279"},
    databricks_instance=HOST,
)
SERVERLESS = DatabricksV2(
    databricks_conf={
        "run_name": "serverless",
        "environment_key": "default",
        "environments": [{"environment_key": "default", "spec": {"client": "2"}}],
    },
    databricks_instance=HOST,
)
PRECONFIGURED = DatabricksV2(
    databricks_conf={"environment_key": "theirs"}, databricks_instance=HOST
)
OWN_FILE = DatabricksV2(
    databricks_conf={
        "existing_cluster_id": "0923-164208-meows279",
        "git_source": {
            "git_url": "https://github.com/me/mine",
            "git_provider": "gitHub",
            "git_branch": "main",
        },
        "python_file": "folder/mine.py",
    },
    databricks_instance=HOST,
)
NOTEBOOK = DatabricksV2(
    databricks_conf={"run_name": "notebook", "existing_cluster_id": "0923-164208-meows279"},
    databricks_instance=HOST,
    notebook_path="/Users/me/notebook",
    notebook_base_parameters={"mode": "fast"},
)
SERVERLESS_NOTEBOOK = DatabricksV2(
    databricks_conf={"environment_key": "default"},
    databricks_instance=HOST,
    notebook_path="/Users/me/notebook",
)
OLDER = Databricks(databricks_conf=dict(NEW.databricks_conf), databricks_instance=HOST)
ENVIRONMENT = {"COLOUR": "red"}


class Told(typing.NamedTuple):
    n: int
    name: str


def added_up(rows: int) -> tuple[int, str]:
    session = flytekit.current_context().spark_session
    total = sum(row.id for row in session.range(rows).collect())
    told = f"{os.environ.get('COLOUR')} {flytekit.current_context().execution_id.name}"
    return total, told


def refused(rows: int) -> int:
    raise ValueError(f"no rows like {rows}")


@task(task_config=NEW, environment=ENVIRONMENT)
def sums_on_new(rows: int) -> tuple[int, str]:
    return added_up(rows)


@task(task_config=EXISTING, environment=ENVIRONMENT)
def sums_on_existing(rows: int) -> tuple[int, str]:
    return added_up(rows)


@task(task_config=SERVERLESS, environment=ENVIRONMENT)
def sums_on_serverless(rows: int) -> tuple[int, str]:
    return added_up(rows)


@task(task_config=NEW)
def raises_on_new(rows: int) -> int:
    return refused(rows)


@task(task_config=EXISTING)
def raises_on_existing(rows: int) -> int:
    return refused(rows)


@task(task_config=SERVERLESS)
def raises_on_serverless(rows: int) -> int:
    return refused(rows)


@task(task_config=NEW)
def raises_without_outputs_on_new(rows: int) -> None:
    refused(rows)


@task(task_config=EXISTING)
def raises_without_outputs_on_existing(rows: int) -> None:
    refused(rows)


@task(task_config=SERVERLESS)
def raises_without_outputs_on_serverless(rows: int) -> None:
    refused(rows)


@task(task_config=EXISTING)
def recoverable_on_existing(rows: int) -> None:
    raise FlyteRecoverableException(f"come back with {rows}")


@task(task_config=EXISTING)
def ends_on_existing(rows: int) -> None:
    endings.end(rows)


@task(task_config=SERVERLESS)
def ends_on_serverless(rows: int) -> None:
    endings.end(rows)


@task(task_config=EXISTING)
def ends_with_outputs_on_existing(rows: int) -> tuple[int, str]:
    endings.end(rows)
    return rows, "done"


@task(task_config=EXISTING)
def waits_on_existing(rows: int) -> int:
    import time

    print("waiting", flush=True)
    time.sleep(rows)
    return rows


@task(task_config=PRECONFIGURED)
def preconfigured(rows: int) -> int:
    return rows


@task(task_config=OWN_FILE)
def own_file(rows: int) -> int:
    return rows


@task(task_config=NOTEBOOK)
def notebook(rows: int) -> Told:
    return Told(rows, "")


@task(task_config=SERVERLESS_NOTEBOOK)
def serverless_notebook() -> None: ...


@task(task_config=OLDER)
def older(rows: int) -> int:
    return rows


TASKS = [value for value in list(globals().values()) if hasattr(value, "task_type")]
VALUES = {"rows": 5}
