"""What a run's code left for Flyte under its output prefix: an error, or outputs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from flyteagents import AgentError, Call, Forbidden, Unauthenticated, Unsupported
from flyteagents_databricks.delivery import NAME
from flyteagents_databricks.environment import FAIL_ON_ERROR
from flyteagents_databricks.failures import Failure, in_part
from flyteagents_databricks.run import RunTask

LOOK = 1.0
"""Seconds for a look at the store before a run. Whether it can be read at all is known at once;
one that is slow, or down, is no reason to hold a task back."""


async def error_left(call: Call) -> Failure | None:
    """The `error.pb` of a run; None where there is none. Raises what the store raises: Unsupported
    where no filesystem is installed for it, Unauthenticated or Forbidden where it refuses, a
    VendorError where it cannot be read now."""
    if not call.output_prefix:
        return None  # the kernel looks whether a run has stopped
    found = await call.read_error()
    if found is None:
        return None
    return Failure(in_part(found.message), recoverable=found.recoverable)


async def will_be_known(tasks: Sequence[Mapping[str, Any]], call: Call, ours: str | None) -> None:
    """Raises Unsupported, Unauthenticated or Forbidden for tasks, as they are submitted, of which
    it could never be known whether their code has failed: before they cost anything, and not when
    they have ended."""
    if all(_will_tell(task, ours) for task in tasks):
        return
    try:
        await asyncio.wait_for(error_left(call), LOOK)
    except (Unsupported, Unauthenticated, Forbidden) as error:
        raise type(error)(
            "Databricks calls a task with a file of its own a success although its code has "
            f"failed, and what it left cannot be read: {error.message}"
        ) from None
    # asyncio's own: in Python 3.10 the built-in TimeoutError is another class.
    except (AgentError, asyncio.TimeoutError):
        pass  # the store may answer when the run has ended


def _will_tell(task: Mapping[str, Any], ours: str | None) -> bool:
    # By no model: the author's part of it may be anything, and it is for Databricks to judge.
    file = task.get("spark_python_task")
    if file is None:
        return True
    variables = task.get("new_cluster", {}).get("spark_env_vars") or {}
    return _tells(file["python_file"], file["parameters"], variables, ours)


def tells_failures(tasks: Sequence[RunTask], ours: str | None = None) -> bool:
    """Whether a run of these tasks is FAILED at Databricks when the task's code has failed.

    So it is for notebooks and for our entrypoint, which looks; and where flytekit's runtime has
    been told to exit with 1. Other files end well and leave an `error.pb`. `ours` is a path at
    which an operator has put our entrypoint.
    """
    return bool(tasks) and all(_task_tells(task, ours) for task in tasks)


def _task_tells(task: RunTask, ours: str | None) -> bool:
    file = task.spark_python_task
    if file is None:
        return True
    variables = task.new_cluster.spark_env_vars if task.new_cluster else {}
    return _tells(file.python_file, file.parameters, variables, ours)


def _tells(
    file: str, parameters: Sequence[str], variables: Mapping[str, Any], ours: str | None
) -> bool:
    if file.rpartition("/")[2].startswith(NAME) or file == ours:
        return True
    flytekit = bool(parameters) and parameters[0].startswith("pyflyte-")
    return flytekit and str(variables.get(FAIL_ON_ERROR)).lower() == "true"
