"""The keys of a task's config, and what becomes of one that is not among them.

What stands beside `databricksConf` and is not known does nothing, and is told. What stands in it
goes on to Databricks, which drops keys that it does not know without a word: there a warning is due
where one looks like a slip.
"""

from __future__ import annotations

from collections.abc import Mapping

from flyteagents import Task
from flyteagents.kit.config_keys import do_nothing, key_names, passed_on, without_effect
from flyteagents_databricks.config import DatabricksConfig

# For Spark on Kubernetes; the SDKs write them for every task (flyteidl's plugins/spark.proto).
# Other fields they write only where a user has set them: those do nothing either, and are told.
_SILENT = frozenset(
    """
    applicationType executorPath mainApplicationFile mainClass primary_container_name
    """.split()  # noqa: SIM905 # read at a glance
)
_TOKEN_FILE = "databricksOidcTokenFile"  # noqa: S105 # a key
# https://docs.databricks.com/api/workspace/jobs/submit, and what the SDKs have at the top of it.
_SUBMIT = frozenset(
    """
    access_control_list budget_policy_id duration_target email_notifications environment_key
    environment_variables environments existing_cluster_id git_source health idempotency_token
    libraries new_cluster notification_settings performance_target python_file queue run_as
    run_name tasks timeout_seconds usage_policy_id webhook_notifications
    """.split()  # noqa: SIM905 # read at a glance
)
# https://docs.databricks.com/api/workspace/clusters/create
_CLUSTER = frozenset(
    """
    apply_policy_default_values autoscale autotermination_minutes aws_attributes azure_attributes
    cluster_log_conf cluster_name custom_tags data_security_mode dependency_mode docker_image
    driver_instance_pool_id driver_node_type_flexibility driver_node_type_id enable_elastic_disk
    enable_local_disk_encryption gcp_attributes init_scripts instance_pool_id is_single_node kind
    node_type_id num_workers policy_id remote_disk_throughput runtime_engine single_user_name
    spark_conf spark_env_vars spark_version ssh_public_keys total_initial_remote_disk_size
    use_ml_runtime worker_node_type_flexibility workload_type
    """.split()  # noqa: SIM905 # read at a glance
)
# Fields of a task, and of jobs/create, which stand at the top where somebody has written them there
# (databricks.sdk.service.jobs 0.162: SubmitTask, JobSettings).
_OF_ATTEMPTS = """
    disable_auto_optimization max_retries min_retry_interval_millis retry_on_timeout
    """.split()  # noqa: SIM905 # read at a glance
_OF_THE_TASK = """
    compute depends_on description disabled environment_variables_key job_cluster_key run_if
    spark_python_task task_key
    """.split()  # noqa: SIM905 # read at a glance
_OF_A_JOB = """
    continuous deployment edit_mode format job_clusters max_concurrent_runs name parameters
    parent_path schedule tags trigger triggers
    """.split()  # noqa: SIM905 # read at a glance
NOT_SENT: Mapping[str, str] = {
    # They share an output prefix: what the first one left would stand for the last one's.
    **dict.fromkeys(_OF_ATTEMPTS, "attempts are for Flyte to repeat; give the task `retries`"),
    **dict.fromkeys(_OF_THE_TASK, "the agent makes the run's one task"),
    **dict.fromkeys(_OF_A_JOB, "it is for jobs that stay, and this is a one-time run"),
    "spark_python_task": "the agent makes the run's one task; name a file by `python_file`",
}
"""Keys of `databricks_conf` that have no place in a one-time run, and why."""


def warnings(task: Task[DatabricksConfig]) -> list[str]:
    """A sentence for each key that nobody reads, and for each that is passed on and looks like a
    slip."""
    unread = set(task.unread) - _SILENT
    conf = task.config.conf or {}
    cluster = conf.get("new_cluster")
    found = do_nothing(unread - {_TOKEN_FILE}, key_names(DatabricksConfig))
    if _TOKEN_FILE in unread:
        found += without_effect({_TOKEN_FILE: "a task may not name files of this service"})
    found += passed_on(conf.keys() - NOT_SENT, _SUBMIT, where="databricksConf")
    if isinstance(cluster, Mapping):
        found += passed_on(cluster, _CLUSTER, where="new_cluster")
    return found
