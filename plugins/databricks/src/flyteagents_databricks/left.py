"""What a run's code left for Flyte under its output prefix: an error, or outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flyteagents import AgentError, Call, Unsupported
from flyteagents_databricks.delivery import NAME
from flyteagents_databricks.environment import FAIL_ON_ERROR
from flyteagents_databricks.failures import Failure, cut
from flyteagents_databricks.run import RunTask


async def error_left(call: Call) -> Failure | None:
    """The `error.pb` of a run; None where there is none. Raises what the store raises: Unsupported
    where no filesystem is installed for it, a VendorError where it cannot be read now."""
    if not call.output_prefix:
        return None  # the kernel looks whether a run has stopped
    found = await call.read_error()
    if found is None:
        return None
    return Failure(cut(found.message), recoverable=found.recoverable)


async def will_be_known(tasks: Sequence[Mapping[str, Any]], call: Call, ours: str | None) -> None:
    """Raises Unsupported for tasks, as they are submitted, of which it could never be known whether
    their code has failed: before they cost anything, and not when they have ended."""
    if tells_failures([RunTask.model_validate(task) for task in tasks], ours):
        return
    try:
        await error_left(call)
    except Unsupported as error:
        raise Unsupported(
            f"Databricks calls a task with a file of its own a success although its code has "
            f"failed, and what it left cannot be read: {error.message}"
        ) from None
    except AgentError:
        pass  # the store may answer when the run has ended


def tells_failures(tasks: Sequence[RunTask], ours: str | None = None) -> bool:
    """Whether a run of these tasks is FAILED at Databricks when the task's code has failed.

    So it is for notebooks and for our entrypoint, which looks; and where flytekit's runtime has
    been told to exit with 1. Other files end well and leave an `error.pb`. `ours` is a path at
    which an operator has put our entrypoint.
    """
    return bool(tasks) and all(_tells(task, ours) for task in tasks)


def _tells(task: RunTask, ours: str | None) -> bool:
    file = task.spark_python_task
    if file is None:
        return True
    name = file.python_file.rpartition("/")[2]
    if name.startswith(NAME) or file.python_file == ours:
        return True
    flytekit = bool(file.parameters) and file.parameters[0].startswith("pyflyte-")
    told = task.new_cluster.spark_env_vars.get(FAIL_ON_ERROR, "")
    return flytekit and told.lower() == "true"
