"""What the environment says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import flyteagents_snowflake
from flyteagents import API
from flyteagents._cli import listing
from flyteagents._kernel.plugins import discover
from flyteagents._kernel.settings import prefix_of, variables
from flyteagents_snowflake import SnowflakeAgent
from flyteagents_snowflake.settings import SnowflakeSettings

PAGE = Path(__file__).parents[2] / "docs" / "snowflake.md"


def settings() -> SnowflakeSettings:
    [plugin] = discover(["snowflake"]).plugins
    found = plugin.settings[SnowflakeSettings]
    assert isinstance(found, SnowflakeSettings)
    return found


def test_the_plugin_is_found_under_its_name() -> None:
    assert flyteagents_snowflake.API == API
    found = discover(["snowflake"])
    assert found.broken == []
    [plugin] = found.plugins
    assert (plugin.name, plugin.package) == ("snowflake", "flyteagents-snowflake")
    assert [list(each.task_types) for each in plugin.agents] == [["snowflake"]]


def test_nothing_set_is_each_accounts_own_address() -> None:
    found = settings()
    assert (found.url, found.account, found.schema) == (None, None, "PUBLIC")
    assert (found.find_by_tag, found.history, found.bindings) == (False, False, "client")


def test_every_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "ACCOUNT": "org-a",
        "USER": "u",
        "ROLE": "r",
        "WAREHOUSE": "w",
        "DATABASE": "d",
        "SCHEMA": "s",
        "URL": "https://sf.internal/",
        "CREDENTIALS": '{"sales/*": "key"}',
        "PRIVATE_KEY_SECRET": "a",
        "OAUTH_SECRET": "b",
        "TOKEN_SECRET": "c",
        "BINDINGS": "server",
        "FIND_BY_TAG": "true",
        "HISTORY": "true",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"FLYTEAGENTS_SNOWFLAKE_{name}", value)
    found = settings().model_dump()
    assert found.pop("credentials") == {"sales/*": "key"}
    assert found.pop("url") == "https://sf.internal"
    assert {name.upper(): str(value) for name, value in found.items()} == {
        name: value.replace("true", "True")
        for name, value in values.items()
        if name not in ("CREDENTIALS", "URL")
    }


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CREDENTIALS", "{not json", "not JSON"),
        ("CREDENTIALS", '{"sales": "key"}', "pattern"),
        ("URL", "snowflake.example", "not an http or https URL"),
        ("BINDINGS", "both", "client"),
        ("TOKEN_SECRET", "a/b", "pattern"),
    ],
)
def test_a_bad_value_stops_the_start_and_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"FLYTEAGENTS_SNOWFLAKE_{name}", value)
    [broken] = discover(["snowflake"]).broken
    assert f"FLYTEAGENTS_SNOWFLAKE_{name}" in broken.cause
    assert words in broken.cause


def test_what_is_promised_follows_from_the_settings() -> None:
    assert SnowflakeAgent.promises(SnowflakeSettings()) == "vendor"
    assert SnowflakeAgent.promises(SnowflakeSettings(find_by_tag=True)) == "lookup"


@pytest.mark.parametrize(
    ("find_by_tag", "words"),
    [
        ("false", "may run twice if it still ran, or failed"),
        ("true", "a first send is not looked up"),
    ],
)
def test_list_says_what_is_not_promised(
    monkeypatch: pytest.MonkeyPatch, find_by_tag: str, words: str
) -> None:
    monkeypatch.setenv("FLYTEAGENTS_PLUGINS", "snowflake")
    monkeypatch.setenv("FLYTEAGENTS_SNOWFLAKE_FIND_BY_TAG", find_by_tag)
    done = CliRunner().invoke(listing.command)
    assert done.exit_code == 0
    assert words in done.output


def test_the_page_has_every_variable() -> None:
    told = set(re.findall(r"FLYTEAGENTS_SNOWFLAKE_[A-Z_]+", PAGE.read_text()))
    assert told >= set(variables(SnowflakeSettings, prefix_of("snowflake")))
