"""The parts of the Jobs API's answers that are read.

https://docs.databricks.com/api/workspace/jobs/getrun, and .../jobs/getrunoutput
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from flyteagents import Fingerprint
from flyteagents.kit.answers import AnswerPart

DESCRIPTION = "flyteagents "
"""What the description of a run's task begins with; its fingerprint follows."""


class Submitted(AnswerPart):
    """The answer of runs/submit."""

    run_id: int = Field(gt=0)


class State(AnswerPart):
    """The state as 2.0 and 2.1 have it; 2.2 still fills it in."""

    life_cycle_state: str = ""
    result_state: str = ""
    state_message: str = ""
    user_cancelled_or_timedout: bool = False
    queue_reason: str = ""


class Details(AnswerPart):
    """Why a run waits, or why it ended."""

    code: str = ""
    type: str = ""
    message: str = ""


class RunStatus(AnswerPart):
    """The state as 2.2 has it."""

    state: str = ""
    queue_details: Details = Details()
    termination_details: Details = Details()


class PythonFile(AnswerPart):
    python_file: str = ""
    parameters: tuple[str, ...] = ()


class NewCluster(AnswerPart):
    spark_env_vars: Mapping[str, Any] = {}


class Cluster(AnswerPart):
    cluster_id: str = ""
    spark_context_id: str = ""


class _Timed(AnswerPart):
    """What a run and its tasks have both. Durations are in milliseconds, times since 1970."""

    run_id: int = 0
    state: State = State()
    status: RunStatus = RunStatus()
    run_page_url: str = ""
    cluster_instance: Cluster = Cluster()
    attempt_number: int = 0
    start_time: int = 0
    end_time: int = 0
    setup_duration: int = 0
    execution_duration: int = 0
    cleanup_duration: int = 0
    queue_duration: int = 0
    run_duration: int = 0
    effective_performance_target: str = ""


class RunTask(_Timed):
    """One task of a run. A `task_key` of over 100 letters comes back cut."""

    task_key: str = ""
    description: str = ""
    spark_python_task: PythonFile | None = None
    notebook_task: Mapping[str, Any] | None = None
    new_cluster: NewCluster | None = None


class Run(_Timed):
    """One run, or a page of its tasks."""

    job_id: int = 0
    run_name: str = ""
    tasks: tuple[RunTask, ...] = ()
    next_page_token: str = ""

    def does(self, fingerprint: Fingerprint | None) -> bool:
        """Whether it does the work of this fingerprint. Yes where it cannot be told: another
        connector's runs, and those of workspaces that do not keep a description."""
        told = [
            task.description.removeprefix(DESCRIPTION)
            for task in self.tasks
            if task.description.startswith(DESCRIPTION)
        ]
        return fingerprint is None or not told or any(map(fingerprint.matches, told))


class NotebookOutput(AnswerPart):
    """What a notebook exited with; `result` is missing where it exited with nothing."""

    result: str | None = None
    truncated: bool = False


class RunOutput(AnswerPart):
    """The answer of runs/get-output, for one task."""

    error: str = ""
    error_trace: str = ""
    logs: str = ""
    logs_truncated: bool = False
    notebook_output: NotebookOutput = NotebookOutput()
