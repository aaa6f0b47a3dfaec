"""The environment variables of a task's process, and by which way each kind of compute takes them.

| compute | takes them by |
|---|---|
| a new cluster | `new_cluster.spark_env_vars` |
| serverless, environment version 5 or later | `environment_variables`, at most 20 |
| an existing cluster, and any other serverless | a parameter of our own entrypoint |

flytekit's connector writes `environments[].spec.environment_vars`, which the Jobs API drops.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flyteagents import Task
from flyteagents_databricks.config import DatabricksConfig

FAIL_ON_ERROR = "FLYTE_FAIL_ON_ERROR"
"""With it flytekit's `pyflyte-execute` exits with 1 when the task's code has raised."""
KEY = "flyte"
COUNT, LENGTH = 20, 512
"""What serverless compute takes: variables, and letters of a value (databricks.sdk.service.jobs,
JobEnvironmentVariablesSpec)."""
FIRST_VERSION = 5
PARAMETER = "--flyteagents-env="


def task_environment(task: Task[DatabricksConfig]) -> dict[str, str]:
    """The container's, then what the execution adds (`pyflyte run --env`), then Flyte's own."""
    container = dict(task.container.env) if task.container else {}
    # FAIL_ON_ERROR last, so that nobody turns it off: a failed task would look like a success.
    return {**_of_flyte(task), **container, **task.environment, FAIL_ON_ERROR: "true"}


def environment_parameter(variables: Mapping[str, str]) -> list[str]:
    """The parameter of our entrypoint that has these variables; none for none."""
    if not variables:
        return []
    return [PARAMETER + json.dumps(variables, sort_keys=True, separators=(",", ":"))]


def serverless_environment(conf: dict[str, Any], variables: dict[str, str]) -> tuple[str, bool]:
    """The key of the environment that the task runs in, made where it is missing, and whether
    `conf` could take the variables."""
    key = conf.pop("environment_key", None) or "default"
    environments = conf["environments"] = conf.get("environments") or []
    found = [one for one in environments if one.get("environment_key") == key]
    if not found:
        # `client` is the older name of `environment_version`; flytekit's connector writes this.
        found = [{"environment_key": key, "spec": {"client": "1"}}]
        environments += found
    spec = found[0]["spec"] = found[0].get("spec") or {}

    # A user who wrote this field meant it; ours win, as they do in flytekit's connector.
    for name, value in (spec.pop("environment_vars", None) or {}).items():
        variables.setdefault(name, str(value))
    return key, _versioned(conf, spec, variables)


def _versioned(conf: dict[str, Any], spec: Mapping[str, Any], variables: dict[str, str]) -> bool:
    """Put the variables where environments of version 5 or later have them."""
    version = str(spec.get("environment_version") or spec.get("client") or "")
    entries = conf.pop("environment_variables", None) or []
    for entry in entries:
        for name, value in ((entry.get("spec") or {}).get("variables") or {}).items():
            variables.setdefault(name, str(value))
    fits = len(variables) <= COUNT and all(len(value) <= LENGTH for value in variables.values())
    if not version.isdecimal() or int(version) < FIRST_VERSION or not fits:
        return False
    # One entry for all, since a task refers to one key only.
    entry = {"environment_variables_key": KEY, "spec": {"variables": variables}}
    conf["environment_variables"] = [entry]
    return True


def _of_flyte(task: Task[DatabricksConfig]) -> dict[str, str]:
    """What a container of Flyte's has: flyteplugins .../flytek8s/k8s_resource_adds.go."""
    who = task.identity
    own = {
        "FLYTE_INTERNAL_EXECUTION_ID": who.execution,
        "FLYTE_INTERNAL_EXECUTION_PROJECT": who.project,
        "FLYTE_INTERNAL_EXECUTION_DOMAIN": who.domain,
        "FLYTE_ATTEMPT_NUMBER": str(who.attempt),
        "FLYTE_INTERNAL_TASK_PROJECT": who.project,
        "FLYTE_INTERNAL_TASK_DOMAIN": who.domain,
        "FLYTE_INTERNAL_TASK_NAME": who.task,
        "FLYTE_INTERNAL_TASK_VERSION": who.version,
        "FLYTE_INTERNAL_PROJECT": who.project,
        "FLYTE_INTERNAL_DOMAIN": who.domain,
        "FLYTE_INTERNAL_NAME": who.task,
        "FLYTE_INTERNAL_VERSION": who.version,
    }
    return {name: value for name, value in own.items() if value}
