"""Runs queries on BigQuery: the task type of flytekit's and flyte-sdk's `BigQueryTask`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flyteagents import Agent, hookimpl
from flyteagents_bigquery.agent import BigQueryAgent

__all__ = ["API", "BigQueryAgent", "register_agents"]

API = 1


@hookimpl
def register_agents() -> Sequence[type[Agent[Any, Any, Any]]]:
    return [BigQueryAgent]
