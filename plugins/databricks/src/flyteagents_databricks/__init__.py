"""Runs tasks on Databricks: the task type of flytekit's `DatabricksV2` and flyte-sdk's
`Databricks`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flyteagents import Agent, hookimpl
from flyteagents_databricks.agent import DatabricksAgent

__all__ = ["API", "DatabricksAgent", "register_agents"]

API = 1


@hookimpl
def register_agents() -> Sequence[type[Agent[Any, Any, Any]]]:
    return [DatabricksAgent]
