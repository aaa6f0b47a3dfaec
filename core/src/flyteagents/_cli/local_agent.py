"""What `run` knows of the agent that its own server will serve, since it is installed here too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flyteagents._client.attempt import FlyteTask
from flyteagents._client.outcome import local_path
from flyteagents._kernel.offered import Offered
from flyteagents._kernel.plugins import discover
from flyteagents._kernel.settings import BadSettings, prefix_of, read_settings
from flyteagents._types import Type
from flyteagents._values import Blob, Schema, StructuredDataset
from flyteagents._wire.literals import decode_literals

_OPENED = "input_prefixes"
"""By convention a plugin's setting of this name has the places that inputs may be read from."""


class LocalAgent:
    """The installed agent for a task; nothing where there is none, which the server will tell."""

    def __init__(self, task: FlyteTask) -> None:
        self._task = task
        self._prefix = ""
        self._agent: Offered | None = None
        try:
            found = discover(read_settings().plugins)
        except BadSettings:
            return
        for plugin in found.plugins:
            for agent in plugin.agents:
                if task.type in agent.task_types:
                    self._agent, self._prefix = agent, prefix_of(plugin.name)

    def opening(self, declared: Mapping[str, Type]) -> dict[str, str]:
        """Variables for a server that may read the files which the user has named."""
        named = sorted(_files(decode_literals(self._task.inputs, declared)))
        opened = getattr(self._agent and self._agent.settings, _OPENED, None)
        if opened is None or not named:
            return {}
        return {f"{self._prefix}{_OPENED.upper()}": ",".join([*opened, *named])}


def _files(value: Any) -> Iterator[str]:
    if isinstance(value, Blob | Schema | StructuredDataset):
        path = local_path(value.uri)
        if path is not None and "," not in str(path):  # the setting is a list with commas
            yield str(path)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _files(each)
    elif isinstance(value, list):
        for each in value:
            yield from _files(each)
