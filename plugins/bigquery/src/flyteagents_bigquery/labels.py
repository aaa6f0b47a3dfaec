"""Labels of jobs: whose they are, for INFORMATION_SCHEMA.JOBS and for ourselves.

https://cloud.google.com/bigquery/docs/labels-intro#requirements
"""

from __future__ import annotations

from collections.abc import Mapping

from flyteagents import Fingerprint, Task
from flyteagents.kit.tags import TagRules, flyte_ids
from flyteagents_bigquery.config import BigQueryConfig

FINGERPRINT = "flyte-fp"
"""The work that a job does."""
TIMEOUT = "flyte-timeout"
"""On jobs whose time limit follows from the task's timeout."""
RULES = TagRules(count=64, length=63, letters="a-z0-9_-", lower=True)


def job_labels(task: Task[BigQueryConfig]) -> dict[str, str]:
    """The user's labels and ours; only what we need ourselves wins over a user's. Raises
    InvalidTask."""
    config = task.config
    needed = {FINGERPRINT: str(task.fingerprint)}
    if config.timeout_ms is None and task.timeout is not None:
        needed[TIMEOUT] = "task"
    ours = flyte_ids(task.identity, prefix="flyte-")
    theirs = {
        name: value for name, value in config.labels.items() if name not in (FINGERPRINT, TIMEOUT)
    }
    return RULES.fit(ours=ours, given=theirs, needed=needed)


def does_other_work(labels: Mapping[str, str], than: Fingerprint | None) -> bool:
    """Whether a job with these labels does other work than it should; one of another connector's
    (`than` is None) may do any."""
    label = labels.get(FINGERPRINT)
    # All jobs of ours have the label, so one without it is somebody else's.
    return than is not None and (label is None or not than.matches(label))
