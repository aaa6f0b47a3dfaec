"""What the Jobs API keeps of a submit. It drops what it does not know, and says nothing.

Fields as `databricks.sdk.service.jobs` has them; a task's own are passed on as they are.
https://docs.databricks.com/api/workspace/jobs/submit
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_RUN = frozenset(
    {
        "access_control_list",
        "budget_policy_id",
        "duration_target",
        "email_notifications",
        "environment_variables",
        "environments",
        "git_source",
        "health",
        "idempotency_token",
        "notification_settings",
        "performance_target",
        "queue",
        "run_as",
        "run_name",
        "tasks",
        "timeout_seconds",
        "usage_policy_id",
        "webhook_notifications",
    }
)
_TASK = frozenset(
    {
        "depends_on",
        "description",
        "disable_auto_optimization",
        "email_notifications",
        "environment_key",
        "environment_variables_key",
        "existing_cluster_id",
        "health",
        "libraries",
        "max_retries",
        "new_cluster",
        "notebook_task",
        "spark_python_task",
        "task_key",
        "timeout_seconds",
        "webhook_notifications",
    }
)
_LEGACY = frozenset(
    {"existing_cluster_id", "libraries", "new_cluster", "notebook_task", "spark_python_task"}
)
_ENVIRONMENT = frozenset(
    {"base_environment", "client", "dependencies", "environment_version", "java_dependencies"}
)


class Rejected(Exception):
    """The submit is answered with 400 and this text."""


def kept(body: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The submit as the API understands it. Raises Rejected.

    The shape of a single task at the top level is that of 2.0, which 2.1 still takes.
    """
    run = {name: value for name, value in body.items() if name in _RUN}
    legacy = {name: value for name, value in body.items() if name in _LEGACY}
    if legacy and "tasks" not in run and version == "2.1":
        run["tasks"] = [{"task_key": "unnamed", **legacy}]
    if not run.get("tasks"):
        raise Rejected("Either tasks or a single task must be specified")
    run["tasks"] = [_task(task, run) for task in run["tasks"]]
    for environment in run.get("environments", ()):
        spec = environment.get("spec") or {}
        environment["spec"] = {name: spec[name] for name in spec if name in _ENVIRONMENT}
    return run


def variables(run: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, str]:
    """The environment variables that reach a task's process."""
    if "new_cluster" in task:
        return dict(task["new_cluster"].get("spark_env_vars") or {})
    key = task.get("environment_variables_key")
    if key is None or "existing_cluster_id" in task:
        return {}
    specs = {one["environment_key"]: one["spec"] for one in run.get("environments", ())}
    spec = specs.get(task.get("environment_key"), {})
    version = spec.get("environment_version") or spec.get("client") or "1"
    if int(version) < 5:
        raise Rejected("environment_variables need environment version 5 or later")
    for entry in run.get("environment_variables", ()):
        if entry["environment_variables_key"] == key:
            given: dict[str, str] = entry["spec"]["variables"]
            if len(given) > 20 or any(len(value) > 512 for value in given.values()):
                raise Rejected("environment_variables are too many or too long")
            return given
    raise Rejected(f"there is no entry {key!r} in environment_variables")


def _task(given: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    task = {name: value for name, value in given.items() if name in _TASK}
    if "spark_python_task" not in task and "notebook_task" not in task:
        raise Rejected(f"task {task.get('task_key')!r} does nothing")
    file = task.get("spark_python_task")
    if file is not None:
        if len(str(file.get("parameters") or [])) > 10_000:
            raise Rejected("parameters take more than 10000 bytes")
        source = file.get("source", "WORKSPACE")
        if source == "GIT" and "git_source" not in run:
            raise Rejected("a task has source GIT, and there is no git_source")
        if source == "WORKSPACE" and not _anywhere(file["python_file"]):
            raise Rejected(f"python_file {file['python_file']!r} is not absolute")
    places = [name for name in ("new_cluster", "existing_cluster_id") if task.get(name)]
    if len(places) > 1:
        raise Rejected("new_cluster and existing_cluster_id exclude each other")
    if not places and file is not None:
        keys = [one["environment_key"] for one in run.get("environments", ())]
        if task.get("environment_key") not in keys:
            raise Rejected(f"there is no environment {task.get('environment_key')!r}")
    variables(run, task)
    return task


def _anywhere(file: str) -> bool:
    return file.startswith("/") or ":/" in file
