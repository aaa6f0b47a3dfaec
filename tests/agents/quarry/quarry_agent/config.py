"""The task's `custom`."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel


class QuarryConfig(BaseModel):
    """tags: on the job, beside ours."""

    tags: Mapping[str, str] = {}
