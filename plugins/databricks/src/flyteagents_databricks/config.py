"""The task's `custom`, as flytekit's `Databricks` and `DatabricksV2` and flyte-sdk's `Databricks`
write it: a SparkJob's fields, and flytekit's own beside them.

flyteidl's plugins/spark.proto; flytekitplugins/spark/task.py; flyteplugins/databricks/task.py
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from flyteagents import InvalidTask
from flyteagents.kit.configs import ConfigPart
from flyteagents_databricks.settings import AuthType
from flyteagents_databricks.shape import check_shape

# What has no part in what a run does, so that runs which differ in it are the same work.
_INCIDENTAL = frozenset(
    {
        "access_control_list",
        "email_notifications",
        "health",
        "idempotency_token",
        "notification_settings",
        "run_name",
        "timeout_seconds",
        "webhook_notifications",
    }
)


class DatabricksConfig(ConfigPart):
    """What has no field here does nothing: it is for Spark on Kubernetes, or nobody knows it. The
    author is told, but of what the SDKs write for every task (known_keys.py).

    A file with a token, which flytekit's tasks may name, is not taken from a task: whoever writes
    tasks could have any file of the service's sent to a host that the task names too.
    """

    conf: Mapping[str, Any] | None = Field(None, alias="databricksConf")
    spark_conf: Mapping[str, str] = Field({}, alias="sparkConf")
    instance: str | None = Field(None, alias="databricksInstance")

    notebook_path: str | None = Field(None, alias="notebookPath")
    notebook_parameters: Mapping[str, Any] = Field({}, alias="notebookBaseParameters")

    provider: str | None = Field(None, alias="databricksServiceCredentialProvider")
    token_secret: str | None = Field(None, alias="databricksTokenSecret")
    auth_type: AuthType | None = Field(None, alias="databricksAuthType")
    client_id: str | None = Field(None, alias="databricksClientId")
    oauth_secret: str | None = Field(None, alias="databricksOauthSecret")
    oidc_audience: str | None = Field(None, alias="databricksOidcAudience")

    @property
    def serverless(self) -> bool:
        """Whether it runs on serverless compute: an environment, and no cluster."""
        conf = self.conf or {}
        cluster = conf.get("existing_cluster_id") or conf.get("new_cluster")
        return not cluster and bool(conf.get("environment_key") or conf.get("environments"))

    def checked(self) -> dict[str, Any]:
        """`databricks_conf`, to be changed at will. Raises InvalidTask."""
        if self.conf is None:
            raise InvalidTask(
                "the task has no databricks_conf: a Spark task for Kubernetes reached the "
                "Databricks agent; look at how task types are routed"
            )
        places = ("existing_cluster_id", "new_cluster", "environment_key", "environments")
        if not any(self.conf.get(name) for name in places):
            raise InvalidTask(
                "databricks_conf says nothing about compute; give it one of "
                f"{', '.join(places[:-1])} or {places[-1]}"
            )
        for name in self.conf:
            # flytekit's connector too writes spark_python_task anew; see known_keys.NOT_SENT.
            if name == "tasks" or (name.endswith("_task") and name != "spark_python_task"):
                raise InvalidTask(
                    f"databricks_conf has {name}; the agent makes the run's one task, which runs "
                    "the Flyte task, its python_file or its notebook_path"
                )
        check_shape(self.conf)
        copied: dict[str, Any] = _copy(self.conf)
        return copied

    def work(self) -> dict[str, Any]:
        """What of it says what the run does."""
        conf = {name: part for name, part in (self.conf or {}).items() if name not in _INCIDENTAL}
        return {
            "conf": conf,
            "spark_conf": dict(self.spark_conf),
            "notebook": self.notebook_path,
            "parameters": dict(self.notebook_parameters),
        }


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copy(part) for name, part in value.items()}
    return [_copy(part) for part in value] if isinstance(value, list | tuple) else value
