"""The task's `custom`."""

from __future__ import annotations

from collections.abc import Mapping

from flyteagents.kit.configs import ConfigPart


class QuarryConfig(ConfigPart):
    """tags: on the job, beside ours."""

    tags: Mapping[str, str] = {}
