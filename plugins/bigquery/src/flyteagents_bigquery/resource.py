"""The parts of BigQuery's Job resource that are read, and the requests for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from flyteagents.kit.answers import AnswerPart

# A plan or a timeline can be megabytes, and every poll would bring them.
POLLED = (
    "jobReference,status,configuration(dryRun,labels,"
    "query(destinationTable,scriptOptions)),"
    "statistics(completionRatio,creationTime,edition,endTime,finalExecutionDurationMs,"
    "numChildJobs,quotaDeferments,reservation_id,startTime,totalBytesProcessed,totalSlotMs,"
    "query(billingTier,cacheHit,ddlTargetTable,dmlStats,numDmlAffectedRows,"
    "queryPlan(recordsWritten),referencedTables,statementType,totalBytesBilled,"
    "totalBytesProcessed,totalSlotMs),"
    "sessionInfo(sessionId))"
)
# The same for the statements of a script, of which a page has 500.
LISTED = (
    "nextPageToken,unreachable,jobs(status(state,errorResult),"
    "configuration(query(destinationTable)),"
    "statistics(startTime,endTime,scriptStatistics,query(statementType)))"
)


class _Part(AnswerPart):
    model_config = ConfigDict(alias_generator=to_camel)


class Reference(_Part):
    project_id: str = ""
    job_id: str = ""
    location: str | None = None


class Problem(_Part):
    """An ErrorProto."""

    reason: str = ""
    location: str = ""
    message: str = ""


class State(_Part):
    """`errors` may hold what a job came across and survived; only `error_result` ends it."""

    state: str = ""
    error_result: Problem | None = None
    errors: tuple[Problem, ...] = ()


class Table(_Part):
    project_id: str
    dataset_id: str
    table_id: str


class ScriptOptions(_Part):
    key_result_statement: str = ""


class Query(_Part):
    destination_table: Table | None = None
    script_options: ScriptOptions = ScriptOptions()


class Configuration(_Part):
    dry_run: bool = False
    labels: Mapping[str, str] = {}
    query: Query = Query()


class JobResource(_Part):
    """One job. `statistics` is kept as it is: what of it is there depends on the job."""

    job_reference: Reference = Reference()
    status: State = State()
    configuration: Configuration = Configuration()
    statistics: Mapping[str, Any] = {}

    @property
    def described(self) -> bool:
        """Whether it says what the job does."""
        return "configuration" in self.model_fields_set

    @property
    def query(self) -> Mapping[str, Any]:
        """The statistics of its query."""
        found = self.statistics.get("query")
        return found if isinstance(found, dict) else {}

    @property
    def statement_type(self) -> str:
        return str(self.query.get("statementType") or "")

    @property
    def children(self) -> int:
        """How many jobs it started: the statements of a script, or of a procedure."""
        return number(self.statistics.get("numChildJobs")) or 0


class JobPage(_Part):
    """An answer of jobs.list. unreachable: locations whose jobs are not in it."""

    jobs: tuple[JobResource, ...] = ()
    unreachable: tuple[str, ...] = ()
    next_page_token: str = ""


def number(value: object) -> int | None:
    """BigQuery writes 64-bit integers as text."""
    if value is None or isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return int(value)
    except (ValueError, OverflowError):
        return None
