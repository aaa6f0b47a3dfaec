"""What a user names on the command line is open to that run.

A server reads and writes only where its operator allows it. Who starts one for a single task is its
operator, and has named the files; so the server that `run` starts is told of them. By convention a
plugin's settings `input_prefixes` and `output_prefixes` have the places, whichever plugin it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flyteagents._cli.listing import agent_for
from flyteagents._client.attempt import FlyteTask
from flyteagents._client.outcome import local_path
from flyteagents._kernel.settings import BadSettings, prefix_of, read_settings
from flyteagents._types import Type
from flyteagents._values import Blob, Schema, StructuredDataset
from flyteagents._wire.literals import decode_literals


def opened(task: FlyteTask, declared: Mapping[str, Type], output_prefix: str) -> dict[str, str]:
    """Variables for a server that may read the task's files and write below `output_prefix`.

    declared: the types of the inputs.
    """
    try:
        found = agent_for(task.type, read_settings())
    except BadSettings:
        found = None
    if found is None:  # the server will tell
        return {}
    plugin, agent = found
    named = {
        "input_prefixes": sorted(_files(decode_literals(task.inputs, declared))),
        "output_prefixes": [output_prefix],
    }
    variables = {}
    for setting, places in named.items():
        allowed = getattr(agent.settings, setting, None)
        # Where none is named for outputs, all are allowed: naming one would forbid the others.
        if allowed is None or (setting == "output_prefixes" and not allowed):
            continue
        # The setting is a list with commas.
        added = [place for place in places if "," not in place]
        variables[f"{prefix_of(plugin.name)}{setting.upper()}"] = ",".join([*allowed, *added])
    return variables


def _files(value: Any) -> Iterator[str]:
    if isinstance(value, Blob | Schema | StructuredDataset):
        path = local_path(value.uri)
        if path is not None:
            yield str(path)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _files(each)
    elif isinstance(value, list):
        for each in value:
            yield from _files(each)
