"""A run's log: what its tasks wrote. Databricks keeps the last 5 MB, and none of notebooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flyteagents import LogLine
from flyteagents.kit.answers import moment
from flyteagents.kit.texts import excerpt
from flyteagents_databricks.failures import ASKED, trace_of
from flyteagents_databricks.run import Run, RunOutput, RunTask
from flyteagents_databricks.states import failures, read_state

RESULT = 1000
"""Bytes of what a notebook exited with."""


def most_telling(tasks: Sequence[RunTask]) -> list[RunTask]:
    """As many tasks as are asked for their output, those that failed before the others; in the
    order in which they began."""
    failed = failures(tasks)
    others = [task for task in tasks if task not in failed]
    return sorted([*failed, *others][:ASKED], key=lambda task: task.start_time)


def log_lines(
    run: Run, tasks: Sequence[RunTask], outputs: Sequence[RunOutput | None]
) -> list[LogLine]:
    """The lines of these tasks of a run, task by task."""
    lines = [LogLine(f"run {run.run_id} {run.run_name}".strip(), moment(run.start_time), True)]
    for task, output in zip(tasks, outputs, strict=True):
        lines += _of_task(task, output, several=len(run.tasks) > 1)
    if len(run.tasks) > len(tasks):
        more = len(run.tasks) - len(tasks)
        lines.append(LogLine(f"what {more} more tasks wrote is on the run's page", None, True))
    state = run.state.life_cycle_state or run.status.state
    told = " ".join(filter(None, (state, run.state.result_state, read_state(run).message)))
    return [*lines, LogLine(told, moment(run.end_time), True)]


def _of_task(task: RunTask, output: RunOutput | None, *, several: bool) -> Iterator[LogLine]:
    if several:
        yield LogLine(f"task {task.task_key}", moment(task.start_time), True)
    if output is None:
        return
    if output.logs_truncated:
        yield LogLine("earlier lines were cut off by Databricks", None, True)
    for text in output.logs.splitlines():
        yield LogLine(text)
    if output.notebook_output.result is not None:
        result = excerpt(output.notebook_output.result, RESULT)
        yield LogLine(f"the notebook exited with {result}", None, True)
    for text in [output.error, *trace_of(output.error_trace).splitlines()]:
        if text:
            yield LogLine(text)
