"""The states of a query, by the names that the driver and the query history have for them.

The SQL API itself tells only whether a statement has ended; these are for what the history says
about statements that it does not know.
"""

from __future__ import annotations

from flyteagents import Phase

# snowflake-connector-python 4.8.1, constants.QueryStatus; the history has a few shorter names.
_PHASES = {
    "RUNNING": Phase.RUNNING,
    "ABORTING": Phase.RUNNING,
    "SUCCESS": Phase.SUCCEEDED,
    "FAILED_WITH_ERROR": Phase.FAILED,
    "FAIL": Phase.FAILED,
    "FAILED": Phase.FAILED,
    "ABORTED": Phase.ABORTED,
    # Not QUEUED, which Flyte drops (docs/design.md, rule 6).
    "QUEUED": Phase.INITIALIZING,
    "FAILED_WITH_INCIDENT": Phase.RETRYABLE_FAILED,
    "INCIDENT": Phase.RETRYABLE_FAILED,
    "DISCONNECTED": Phase.RETRYABLE_FAILED,
    "RESUMING_WAREHOUSE": Phase.INITIALIZING,
    "QUEUED_REPARING_WAREHOUSE": Phase.INITIALIZING,  # Snowflake's own spelling
    "QUEUED_REPAIRING_WAREHOUSE": Phase.INITIALIZING,
    "RESTARTED": Phase.RUNNING,  # Snowflake runs it again by itself
    "BLOCKED": Phase.INITIALIZING,
    "NO_DATA": Phase.INITIALIZING,
}


def phase_of(state: str) -> Phase | None:
    """None for a state that Snowflake did not have when this was written."""
    return _PHASES.get(state.upper())


def waits(state: str) -> bool:
    """Whether a query in this state has not begun to run."""
    return phase_of(state) is Phase.INITIALIZING
