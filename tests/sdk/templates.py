"""The tasks of flytekit_templates.py and flyte_sdk_templates.py, for the tests that run them."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from flyteidl.core import literals_pb2, tasks_pb2
from tests.sdk.environments import Sdk, run_script

from flyteagents.testing import FlyteTask

SDKS: tuple[Sdk, ...] = ("flytekit", "flyte-sdk")
_SCRIPT = {"flytekit": "flytekit_templates.py", "flyte-sdk": "flyte_sdk_templates.py"}


@dataclass(frozen=True)
class Authored:
    """A task as an SDK wrote it: the bytes of its TaskTemplate and of its inputs."""

    template_bytes: bytes
    input_bytes: bytes

    @property
    def template(self) -> tasks_pb2.TaskTemplate:
        """As Flyte 1 has it, which is also how ours reads a template of Flyte 2."""
        return tasks_pb2.TaskTemplate.FromString(self.template_bytes)

    @property
    def inputs(self) -> literals_pb2.LiteralMap:
        return literals_pb2.LiteralMap.FromString(self.input_bytes)

    @property
    def task(self) -> FlyteTask:
        return FlyteTask(self.template, self.inputs)


def authored(sdk: Sdk) -> dict[str, Authored]:
    """The tasks by name; skips the test where the SDK is not installed."""
    return {
        line["name"]: Authored(base64.b64decode(line["template"]), base64.b64decode(line["inputs"]))
        for line in run_script(sdk, _SCRIPT[sdk])
    }
