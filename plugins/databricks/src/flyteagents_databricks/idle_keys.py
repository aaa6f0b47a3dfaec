"""Keys that are known and change nothing in the task at hand: the API has no place for them in a
one-time run, or something else of the task goes before them.

Their authors see no difference, whether it is Databricks that drops them or the agent: so each is
told, with what to do instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flyteagents import InvalidTask, Task
from flyteagents.kit.config_keys import without_effect
from flyteagents_databricks.config import DatabricksConfig
from flyteagents_databricks.environment import FAIL_ON_ERROR, task_environment
from flyteagents_databricks.known_keys import NOT_SENT
from flyteagents_databricks.request import in_repository, loses_environment
from flyteagents_databricks.settings import DatabricksSettings

_OF_FLYTE = ("FLYTE_", "_F_", "_U_")
"""What names begin with that the SDKs give a container themselves."""


def idle_keys(task: Task[DatabricksConfig], settings: DatabricksSettings) -> list[str]:
    """A sentence for each of them; none for a task that is refused, which hears why."""
    try:
        conf = task.config.checked()
    except InvalidTask:
        return []
    return [
        *without_effect(_in_conf(task.config, conf), where="databricksConf"),
        *without_effect(_beside_it(task, conf, settings)),
        *without_effect(_parameters(task), where="notebookBaseParameters"),
        *_variables(task, conf),
    ]


def _in_conf(config: DatabricksConfig, conf: Mapping[str, Any]) -> dict[str, str]:
    found = {name: why for name, why in NOT_SENT.items() if name in conf}
    if not config.serverless:
        for name in ("environment_key", "environments", "environment_variables"):
            if conf.get(name):
                found[name] = "it is for serverless compute, and the task runs on a cluster"

    file = str(conf.get("python_file") or "")
    if file and config.notebook_path:
        found["python_file"] = "the task runs a notebook"
    elif file and conf.get("git_source") and not in_repository(file):
        found["git_source"] = f"{file} is no path in a repository"
    return found


def _beside_it(
    task: Task[DatabricksConfig], conf: Mapping[str, Any], settings: DatabricksSettings
) -> dict[str, str]:
    config = task.config
    cluster = conf.get("new_cluster")
    found = {}
    if config.spark_conf and not cluster:
        found["sparkConf"] = "only a new cluster takes it"
    elif config.spark_conf and cluster and cluster.get("spark_conf"):
        found["sparkConf"] = "the spark_conf in new_cluster goes before it"
    if config.notebook_parameters and not config.notebook_path:
        found["notebookBaseParameters"] = "the task runs no notebook"
    if config.provider and (config.notebook_path or not config.serverless):
        found["databricksServiceCredentialProvider"] = (
            "it opens Flyte's store to Python files on serverless compute"
        )

    of_namespaces = {
        "databricksTokenSecret": config.token_secret,
        "databricksOauthSecret": config.oauth_secret,
        "databricksOidcAudience": config.oidc_audience,
    }
    if not settings.namespace_secrets:
        for name in filter(of_namespaces.get, of_namespaces):
            found[name] = (
                "this service does not look into Kubernetes namespaces; its operator sets "
                "FLYTEAGENTS_DATABRICKS_NAMESPACE_SECRETS"
            )
    return found


def _parameters(task: Task[DatabricksConfig]) -> dict[str, str]:
    if not task.config.notebook_path:
        return {}
    both = task.config.notebook_parameters.keys() & task.inputs.keys()
    return dict.fromkeys(both, "the task's input of this name goes before it")


def _variables(task: Task[DatabricksConfig], conf: Mapping[str, Any]) -> list[str]:
    """Of the process's environment: what another one goes before, and what does not arrive."""
    ours = task_environment(task)
    told = []
    for where, given in _given(conf):
        beaten = dict.fromkeys(
            (name for name in given if name in ours and str(given[name]) != ours[name]),
            "the task's own environment goes before it",
        )
        if FAIL_ON_ERROR in beaten:
            beaten[FAIL_ON_ERROR] = "a task that has failed would look like one that has not"
        told += without_effect(beaten, where=where)

    lost = [
        name
        for name in sorted(task.container.env if task.container else ())
        if not name.startswith(_OF_FLYTE)
    ]
    if lost and loses_environment(task):
        what = "a notebook" if task.config.notebook_path else "a file of its own"
        told.append(
            f"the environment variables {', '.join(lost)} do not reach the task: Databricks has "
            f"no way to give them to {what} there"
        )
    return told


def _given(conf: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The environment variables in `databricks_conf`, and where they are."""
    yield "spark_env_vars", (conf.get("new_cluster") or {}).get("spark_env_vars") or {}
    for environment in conf.get("environments") or ():
        yield "environment_vars", (environment.get("spec") or {}).get("environment_vars") or {}
    for entry in conf.get("environment_variables") or ():
        yield "environment_variables", (entry.get("spec") or {}).get("variables") or {}
