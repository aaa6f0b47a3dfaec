"""The keys of a task's config, and what becomes of one that is not among them.

BigQuery gets new keys now and then, so those that are not known go on to it: a warning is due only
where one looks like a slip.
"""

from __future__ import annotations

from flyteagents import Task
from flyteagents.kit.config_keys import do_nothing, key_names, passed_on
from flyteagents_bigquery.config import BigQueryConfig

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
    """A sentence for each key that nobody reads, and for each that is passed on and looks like a
    slip."""
    sent = task.config.query.keys()
    unread = (task.config.model_extra or {}).keys() - sent
    known = key_names(BigQueryConfig) | _QUERY
    return [*do_nothing(unread, known), *passed_on(sent, known)]
