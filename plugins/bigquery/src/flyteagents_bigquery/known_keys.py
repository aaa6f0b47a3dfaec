"""The keys of a task's config, and what becomes of one that is not among them.

BigQuery gets new keys now and then, so those that are not known go on to it: a warning is due only
where one looks like a slip.
"""

from __future__ import annotations

from flyteagents import InvalidTask, Task
from flyteagents.kit.config_keys import do_nothing, key_names, passed_on, without_effect
from flyteagents_bigquery.config import NOT_SENT, BigQueryConfig
from flyteagents_bigquery.labels import job_labels

# https://cloud.google.com/bigquery/docs/reference/rest/v2/Job#JobConfigurationQuery
_QUERY = frozenset(
    """
    allowLargeResults clustering connectionProperties continuous createDisposition createSession
    defaultDataset destinationEncryptionConfiguration destinationTable flattenResults
    maximumBillingTier maximumBytesBilled parameterMode preserveNulls priority query
    queryParameters rangePartitioning schemaUpdateOptions scriptOptions systemVariables
    tableDefinitions timePartitioning useLegacySql useQueryCache userDefinedFunctionResources
    writeDisposition writeIncrementalResults
    """.split()  # noqa: SIM905 # read at a glance
)


def warnings(task: Task[BigQueryConfig]) -> list[str]:
    """A sentence for each key that has no effect, and for each that is passed on and looks like a
    slip."""
    config = task.config
    sent = config.query.keys()
    unread = (config.model_extra or {}).keys() - sent
    known = key_names(BigQueryConfig) | _QUERY
    idle = {name: why for name, why in NOT_SENT.items() if name in unread}
    return [
        *do_nothing(unread - idle.keys(), known),
        *without_effect(idle),
        *without_effect(_lost_labels(task), where="labels"),
        *passed_on(sent, known),
    ]


def _lost_labels(task: Task[BigQueryConfig]) -> dict[str, str]:
    try:
        labels = job_labels(task)
    except InvalidTask:  # too many: the task is refused, and says so
        return {}
    lost = (name for name, value in task.config.labels.items() if labels.get(name) != value)
    return dict.fromkeys(lost, "the agent needs its name or its room")
