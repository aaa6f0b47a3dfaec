"""Runs statements on quarry, a made-up warehouse: the plugin to copy for a vendor of your own.

It has the files that every vendor's plugin has, and uses every part of `flyteagents.kit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flyteagents import Agent, hookimpl
from quarry_agent.agent import QuarryAgent

__all__ = ["API", "QuarryAgent", "register_agents"]

API = 1


@hookimpl
def register_agents() -> Sequence[type[Agent[Any, Any, Any]]]:
    return [QuarryAgent]
