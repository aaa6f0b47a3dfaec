"""The DuckDB agent of flyteagents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flyteagents import Agent, hookimpl
from flyteagents_duckdb.agent import DuckDBAgent

API = 1


@hookimpl
def register_agents() -> Sequence[type[Agent[Any, Any, Any]]]:
    """The agent for `duckdb_query`."""
    return [DuckDBAgent]
