"""The keys of a task's config, and what becomes of one that is not among them.

Most do nothing, and are told. Session parameters go on to Snowflake, which has more of them than
are listed here: there a warning is due only where one looks like a slip.
"""

from __future__ import annotations

from collections.abc import Collection

from flyteagents import Task
from flyteagents.kit.config_keys import do_nothing, key_names, passed_on, without_effect
from flyteagents_snowflake.config import ConnectionKwargs, SnowflakeConfig

# flytekit wrote it until 1.13, and no user has to know.
_SILENT = frozenset({"table"})
# They tune the Python driver, which is not used here: a result is the same without them.
# https://docs.snowflake.com/en/developer-guide/python-connector/python-connector-api
_TUNING = frozenset(
    """
    application arrow_number_to_decimal backoff_policy client_fetch_threads client_prefetch_threads
    client_session_keep_alive client_session_keep_alive_heartbeat_frequency disable_ocsp_checks
    disable_request_pooling insecure_mode login_timeout network_timeout no_proxy numpy
    ocsp_fail_open paramstyle protocol proxy_host proxy_port server_session_keep_alive
    socket_timeout validate_default_parameters
    """.split()  # noqa: SIM905 # read at a glance
)
# https://docs.snowflake.com/en/sql-reference/parameters
_SESSION = frozenset(
    """
    ABORT_DETACHED_QUERY AUTOCOMMIT BINARY_INPUT_FORMAT BINARY_OUTPUT_FORMAT
    CLIENT_RESULT_CHUNK_SIZE CLIENT_TIMESTAMP_TYPE_MAPPING DATE_INPUT_FORMAT DATE_OUTPUT_FORMAT
    ERROR_ON_NONDETERMINISTIC_MERGE ERROR_ON_NONDETERMINISTIC_UPDATE
    GEOGRAPHY_OUTPUT_FORMAT GEOMETRY_OUTPUT_FORMAT LOCK_TIMEOUT LOG_LEVEL METRIC_LEVEL
    MULTI_STATEMENT_COUNT QUERY_TAG QUOTED_IDENTIFIERS_IGNORE_CASE ROWS_PER_RESULTSET
    SEARCH_PATH STATEMENT_QUEUED_TIMEOUT_IN_SECONDS STATEMENT_TIMEOUT_IN_SECONDS
    STRICT_JSON_OUTPUT TIMESTAMP_DAY_IS_ALWAYS_24H TIMESTAMP_INPUT_FORMAT
    TIMESTAMP_LTZ_OUTPUT_FORMAT TIMESTAMP_NTZ_OUTPUT_FORMAT TIMESTAMP_OUTPUT_FORMAT
    TIMESTAMP_TYPE_MAPPING TIMESTAMP_TZ_OUTPUT_FORMAT TIMEZONE TIME_INPUT_FORMAT
    TIME_OUTPUT_FORMAT TRACE_LEVEL TRANSACTION_ABORT_ON_ERROR TRANSACTION_DEFAULT_ISOLATION_LEVEL
    TWO_DIGIT_CENTURY_START UNSUPPORTED_DDL_ACTION USE_CACHED_RESULT WEEK_OF_YEAR_POLICY WEEK_START
    """.split()  # noqa: SIM905 # read at a glance
)


def warnings(task: Task[SnowflakeConfig]) -> list[str]:
    """A sentence for each key that has no effect, and for each parameter of the session that looks
    like a slip."""
    given = task.config.connection_kwargs
    unread = (given.model_extra or {}).keys() - _TUNING
    parameters = [name.upper() for name in given.session_parameters]
    counted = {"MULTI_STATEMENT_COUNT": "the agent counts the statements itself"}
    return [
        *do_nothing(set(task.unread) - _SILENT, key_names(SnowflakeConfig)),
        *without_effect(_of_batches(task)),
        *do_nothing(unread, key_names(ConnectionKwargs), where="connection_kwargs"),
        *without_effect(_said_twice(task.config, parameters), where="connection_kwargs"),
        *without_effect(
            {name: counted[name] for name in parameters if name in counted},
            where="session_parameters",
        ),
        *passed_on(parameters, _SESSION, where="session_parameters"),
    ]


def _of_batches(task: Task[SnowflakeConfig]) -> dict[str, str]:
    if not task.config.batch:
        return {}
    if not task.inputs:
        return {"batch": "the task has no inputs to make rows of"}
    if task.config.bindings == "server":
        return {"bindings": "the rows of a batch are written into the statement"}
    return {}


def _said_twice(config: SnowflakeConfig, parameters: Collection[str]) -> dict[str, str]:
    """What is also said at another place, which goes before it."""
    given = config.connection_kwargs
    found = {}
    if given.role and config.role and given.role != config.role:
        found["role"] = "the role in the task's config goes before it"
    if given.timezone and "TIMEZONE" in parameters:
        found["timezone"] = "TIMEZONE in session_parameters goes before it"
    if given.region and given.host:
        found["region"] = "host goes before it"
    return found
