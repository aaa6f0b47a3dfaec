"""What a failed statement tells the user: why, and of several, what took effect before it.

https://docs.snowflake.com/en/developer-guide/sql-api/submitting-multiple-statements
"""

from __future__ import annotations

from flyteagents import Status
from flyteagents.kit.answers import moment
from flyteagents_snowflake.answers import Answer
from flyteagents_snowflake.job import SnowflakeJob
from flyteagents_snowflake.reasons import ending, place_of_failure, told
from flyteagents_snowflake.statistics import job_info


def failed(job: SnowflakeJob, found: Answer) -> Status:
    """The end of a statement that did not succeed, in Snowflake's words."""
    phase = ending(found.code, found.sql_state, limited=job.limited)
    text = told(found.code, found.message, job.user)
    place = place_of_failure(found.message)
    if place is not None:
        line, column, why = place
        alone = len(job.starts) == 1  # the other statement was our own
        text = told(found.code, why, job.user)
        text = text if alone else f"{_before(job, line, column)} | {text}"
    return Status(
        phase,
        f"{text} | query={job.query_id}",
        code=found.code or None,
        info=job_info(job, {}),
        started=moment(found.created),
    )


def _before(job: SnowflakeJob, line: int, column: int) -> str:
    """Which of several statements failed, and what took effect before it."""
    number = sum(start <= (line, column) for start in job.starts)
    unless = "unless a transaction of theirs was not committed"
    if number == 0:
        return (
            f"the statement at line {line}, position {column} failed; those before it took "
            f"effect, {unless}"
        )
    which = f"statement {number} of {len(job.starts)} failed"
    if number == 1:
        return f"{which}; none took effect"
    before = "statement 1" if number == 2 else f"statements 1 to {number - 1}"
    return f"{which}; {before} took effect, {unless}"
