"""What the user is told of a run that failed: what its code left for Flyte, or what Databricks
has of the tasks that failed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from flyteagents import AgentError
from flyteagents.kit.texts import excerpt
from flyteagents_databricks.entrypoint import RecoverableTaskFailed, TaskFailed, without_listing
from flyteagents_databricks.run import RunOutput, RunTask

TEXT = 3000
"""Bytes of a message. Flyte keeps it with the execution."""
TRACE = 30
"""Lines of a traceback, its last ones."""
SEARCHED = 64 * 1024
"""Bytes of a traceback in which they are looked for."""
ASKED = 20
"""Tasks whose output is asked for, which may be 5 MB each; further ones are counted."""
LINE = 100
"""Bytes of what is told of each task but the first."""
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TYPED = re.compile(r"^(?:[\w.]*\.)?(?P<kind>\w+): (?:\[[\w:.-]{1,100}\] )?")
_HEADER = "Traceback (most recent call last):"


@dataclass(frozen=True)
class Failure:
    """Why a run failed. recoverable: what the code said of itself; None where it said nothing."""

    message: str
    recoverable: bool | None = None


def failure_of(tasks: Sequence[RunTask], outputs: Sequence[RunOutput | None]) -> Failure:
    """What Databricks has of the tasks that failed, the first of them in full; an output is None
    where it has none."""
    if not tasks:
        return Failure("")
    told = [_told(task, output) for task, output in zip(tasks, outputs, strict=False)]
    recoverable = {one.recoverable for one in told}
    rest = [
        excerpt(f"task {task.task_key}: {one.message.partition(chr(10))[0]}", LINE)
        for task, one in zip(tasks[1:], told[1:], strict=False)
    ]
    if len(tasks) > len(told):
        rest.append(f"and {len(tasks) - len(told)} more tasks failed")
        recoverable.add(None)  # it is not known what they say
    first = f"task {tasks[0].task_key}: {told[0].message}" if rest else told[0].message
    text = in_part(first, TEXT - len("\n".join(["", *rest]).encode()))
    # Flyte takes one word for the whole run, so it counts only where all tasks say the same.
    agreed = recoverable.pop() if len(recoverable) == 1 else None
    return Failure("\n".join(filter(None, (text, *rest))), agreed)


async def outputs_of(
    tasks: Sequence[RunTask], output: Callable[[RunTask], Awaitable[RunOutput]]
) -> list[RunOutput | None]:
    """What Databricks has of each task. What cannot be read does not stand in the way."""

    async def one(task: RunTask) -> RunOutput | None:
        try:
            return await output(task)
        except AgentError:
            return None

    return list(await asyncio.gather(*map(one, tasks[:ASKED])))


def _told(task: RunTask, output: RunOutput | None) -> Failure:
    state = task.status.termination_details.message or task.state.state_message
    if output is None or not (output.error or output.error_trace):
        return Failure(state)
    match = _TYPED.match(output.error)
    kind = match["kind"] if match else ""
    if match and kind in (TaskFailed.__name__, RecoverableTaskFailed.__name__):
        # Our entrypoint has put the code's own words there; its traceback is of no use.
        text = output.error[match.end() :]
        return Failure(text, recoverable=kind == RecoverableTaskFailed.__name__)
    return Failure("\n".join(filter(None, (output.error or state, trace_of(output.error_trace)))))


def trace_of(text: str) -> str:
    """The end of a traceback, without what colours it."""
    told = excerpt(_ANSI.sub("", text), SEARCHED, ending=SEARCHED // 2)
    lines = [line for line in told.splitlines() if line.strip()]
    return "\n".join(line for line in lines[-TRACE:] if line.strip() != _HEADER)


def in_part(text: str, limit: int = TEXT) -> str:
    """Its begin and its end: an error's text is at the one, or at the other."""
    return excerpt(without_listing(text), limit, ending=limit * 2 // 3)
