"""The page on the agent has every setting, as it is."""

from __future__ import annotations

import re
from pathlib import Path

from flyteagents_duckdb.config import DuckDBConfig
from flyteagents_duckdb.settings import DuckDBSettings

PAGE = (Path(__file__).parents[2] / "docs" / "duckdb.md").read_text()


def test_the_page_lists_every_setting_with_its_description() -> None:
    rows = re.findall(r"^\| `FLYTEAGENTS_DUCKDB_(\w+)` \| .* \| (.*) \|$", PAGE, re.MULTILINE)
    fields = DuckDBSettings.model_fields
    assert dict(rows) == {name.upper(): field.description for name, field in fields.items()}


def test_the_page_lists_every_key_of_the_task_s_config() -> None:
    for name in DuckDBConfig.model_fields:
        assert re.search(rf"^\| `{name}`", PAGE, re.MULTILINE), name
