"""A container's arguments as Flyte renders them before it calls anyone: jobs that run a user's code
learn from them where its inputs are and its outputs go.

flyteplugins/go/tasks/pluginmachinery/core/template/template.go; for Flyte 2
executor/pkg/plugin/task_exec_metadata.go. Inputs by name (`{{.inputs.month}}`) stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from flyteidl.core import tasks_pb2

_PLACE = re.compile(r"\{\{\s*[.$](\w+)\s*\}\}")


def rendered(template: tasks_pb2.TaskTemplate, places: Mapping[str, str]) -> tasks_pb2.TaskTemplate:
    """The template with `places` in its container's arguments, by their names in lower case. The
    same one where there is nothing to render."""
    arguments = [
        _PLACE.sub(lambda found: _said(found, places), arg) for arg in _arguments(template)
    ]
    if arguments == _arguments(template):
        return template
    made = tasks_pb2.TaskTemplate()
    made.CopyFrom(template)
    made.container.args[:] = arguments
    return made


def places_in(template: tasks_pb2.TaskTemplate) -> set[str]:
    """The names, in lower case, of the places in its container's arguments."""
    return {name.lower() for arg in _arguments(template) for name in _PLACE.findall(arg)}


def _arguments(template: tasks_pb2.TaskTemplate) -> list[str]:
    return list(template.container.args)


def _said(found: re.Match[str], places: Mapping[str, str]) -> str:
    return places.get(found[1].lower(), found[0])
