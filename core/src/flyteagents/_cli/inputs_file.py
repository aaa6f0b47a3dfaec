"""The file with a task's inputs, which Flyte has in its store before it calls anyone.

A job that runs a user's code reads it there: the SDKs name its place in the container's arguments.
"""

from __future__ import annotations

from flyteagents._client.attempt import Attempt
from flyteagents._client.outcome import local_path
from flyteagents._client.rendering import places_in
from flyteagents._kernel.stores import file_system
from flyteagents._redact import excerpt


def place_inputs(attempt: Attempt) -> str:
    """Write it, for a task whose container names it. What kept it from being written, in words; ""
    where nothing did."""
    if not places_in(attempt.task.template) & {"input", "inputprefix"}:
        return ""
    place = attempt.inputs_file
    try:
        _write(place, attempt.task.inputs.SerializeToString())
        # Stores have no folders, so flyte-sdk's runtime makes none for the outputs.
        if folder := local_path(attempt.output_prefix):
            folder.mkdir(exist_ok=True)
    except Exception as error:  # noqa: BLE001 # each store has its own
        why = excerpt(str(error), 300)
    else:
        return ""
    return f"the task's inputs cannot be written to {place}, where its job will look: {why}"


def _write(place: str, raw: bytes) -> None:
    path = local_path(place)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        return

    system, there = file_system(place)
    system.pipe_file(there, raw)
