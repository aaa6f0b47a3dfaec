"""Runs SQL on Snowflake: what flytekit's `SnowflakeTask` and flyte-sdk's `Snowflake` write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flyteagents import Agent, hookimpl
from flyteagents_snowflake.agent import SnowflakeAgent

__all__ = ["API", "SnowflakeAgent", "register_agents"]

API = 1


@hookimpl
def register_agents() -> Sequence[type[Agent[Any, Any, Any]]]:
    return [SnowflakeAgent]
