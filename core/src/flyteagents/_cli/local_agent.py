"""What `run` knows of the agent that its own server will serve, since it is installed here too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import AliasChoices

from flyteagents._cli.screen import did_you_mean
from flyteagents._client.attempt import FlyteTask
from flyteagents._client.outcome import local_path
from flyteagents._kernel.offered import Offered
from flyteagents._kernel.plugins import discover
from flyteagents._kernel.settings import BadSettings, prefix_of, read_settings
from flyteagents._kernel.tasks import RESERVED
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

    def misspelt(self) -> Iterator[str]:
        """What the task's `custom` says and the agent does not read."""
        if self._agent is None:
            return
        config = self._agent.models.config
        if config.model_config.get("extra") == "allow":
            return
        known = set(config.model_fields)
        for field in config.model_fields.values():
            known |= _spellings(field.validation_alias or field.alias)
        for key in sorted(self._task.template.custom.keys() - known - RESERVED):
            yield f"{self._task.type} does not read {key!r} in custom{did_you_mean(key, known)}"

    def opening(self, declared: Mapping[str, Type]) -> dict[str, str]:
        """Variables for a server that may read the files which the user has named."""
        named = sorted(_files(decode_literals(self._task.inputs, declared)))
        opened = getattr(self._agent and self._agent.settings, _OPENED, None)
        if opened is None or not named:
            return {}
        return {f"{self._prefix}{_OPENED.upper()}": ",".join([*opened, *named])}


def _spellings(alias: object) -> set[str]:
    if isinstance(alias, AliasChoices):
        return {name for each in alias.choices for name in _spellings(each)}
    return {alias} if isinstance(alias, str) else set()


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
