"""Where a job's result is, as the output that the task declares."""

from __future__ import annotations

from collections.abc import Mapping

from flyteagents import Call, InvalidTask, StructuredDataset
from flyteagents.kit.outputs import table_output
from quarry_agent.states import Statement


def job_outputs(done: Statement, call: Call) -> Mapping[str, object]:
    """The declared outputs of a job that succeeded. Raises InvalidTask where it has no result."""
    found = table_output(call.declared)
    if found is None:
        return {}
    name, of = found
    if done.table is None:
        raise InvalidTask(f"the task declares {name!r}, and its statement has no result")
    return {name: StructuredDataset(f"quarry://{done.table}", of.columns, of.format)}
