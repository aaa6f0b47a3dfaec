"""Serverless compute runs a task that failed again by itself, unless its submit says otherwise.

https://docs.databricks.com/jobs/run-serverless-jobs
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.databricks.runs import Plan, Work
from tests.databricks.workspace import Workspace

Cluster = Callable[[dict[str, Any], Workspace], Work]
RETRIES = 3


def worked(cluster: Cluster, run: dict[str, Any], workspace: Workspace) -> Work:
    """The work of a run, on `cluster`."""
    [task] = run["tasks"]
    serverless = not task.get("existing_cluster_id") and not task.get("new_cluster")
    if not serverless or task.get("disable_auto_optimization"):
        return cluster(run, workspace)
    return _Repeated(lambda: cluster(run, workspace))


class _Repeated:
    """A task that is started again until it succeeds."""

    def __init__(self, start: Callable[[], Work]) -> None:
        self._start = start
        self._works = [start()]
        self._killed = False

    @property
    def ended(self) -> float | None:
        """Looked at by every poll, which is when the next attempt begins."""
        last = self._works[-1]
        done = self._killed or len(self._works) > RETRIES
        if last.ended is None or done or last.plan().result == "SUCCESS":
            return last.ended
        self._works.append(self._start())
        return self.ended

    def plan(self) -> Plan:
        earlier = tuple(work.plan() for work in self._works[:-1])
        return replace(self._works[-1].plan(), earlier=earlier)

    def kill(self) -> None:
        self._killed = True
        self._works[-1].kill()
