"""The tasks of `image`, written with the real SDKs, for the tests that run them."""

from __future__ import annotations

import base64
import functools
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flyteidl.core import literals_pb2, tasks_pb2
from tests.databricks.cluster import HERE, need_cluster
from tests.sdk.environments import Sdk

from flyteagents.testing import FlyteTask


@dataclass(frozen=True)
class Written:
    """A task, and the body of the submit that its SDK's own connector makes of it."""

    task: FlyteTask
    theirs: Mapping[str, Any]


@functools.cache
def written(sdk: Sdk) -> Mapping[str, Written]:
    """The tasks by name; skips the test where there is no environment for them."""
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "/tmp")}
    done = subprocess.run(
        [need_cluster(), HERE / "authored.py", sdk],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            told = json.loads(line)
            template = tasks_pb2.TaskTemplate.FromString(base64.b64decode(told["template"]))
            inputs = literals_pb2.LiteralMap.FromString(base64.b64decode(told["inputs"]))
            found[told["name"]] = Written(FlyteTask(template, inputs), told["spec"])
    return found
