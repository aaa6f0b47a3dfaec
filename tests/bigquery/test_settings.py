"""What the environment says."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

import flyteagents_bigquery
from flyteagents import API
from flyteagents._kernel.plugins import discover
from flyteagents._kernel.settings import prefix_of, variables
from flyteagents_bigquery.settings import BigQuerySettings

PAGE = Path(__file__).parents[2] / "docs" / "bigquery.md"


def settings() -> BigQuerySettings:
    [plugin] = discover(["bigquery"]).plugins
    found = plugin.settings[BigQuerySettings]
    assert isinstance(found, BigQuerySettings)
    return found


def test_the_plugin_is_found_under_its_name() -> None:
    assert flyteagents_bigquery.API == API
    found = discover(["bigquery"])
    assert found.broken == []
    [plugin] = found.plugins
    assert (plugin.name, plugin.package) == ("bigquery", "flyteagents-bigquery")
    assert [list(each.task_types) for each in plugin.agents] == [["bigquery_query_job_task"]]


def test_nothing_set_is_googles_own_service() -> None:
    found = settings()
    assert (found.url, found.anonymous) == ("https://bigquery.googleapis.com", False)
    assert (found.project, found.location, found.credentials) == (None, None, {})


@pytest.mark.parametrize("host", ["http://127.0.0.1:9050", "127.0.0.1:9050"])
def test_an_emulator_is_used_without_credentials(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", host)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "theirs")
    found = settings()
    assert (found.url, found.anonymous) == ("http://127.0.0.1:9050", True)
    assert found.project == "theirs"


def test_our_own_variables_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "theirs")
    monkeypatch.setenv("FLYTEAGENTS_BIGQUERY_PROJECT", "ours")
    monkeypatch.setenv("FLYTEAGENTS_BIGQUERY_LOCATION", "EU")
    monkeypatch.setenv("FLYTEAGENTS_BIGQUERY_URL", "https://bigquery-x.p.googleapis.com/")
    monkeypatch.setenv("FLYTEAGENTS_BIGQUERY_SCOPES", "a, b")
    monkeypatch.setenv("FLYTEAGENTS_BIGQUERY_CREDENTIALS", '{"sales/*": "key"}')
    found = settings()
    assert (found.project, found.location) == ("ours", "EU")
    assert found.url == "https://bigquery-x.p.googleapis.com"
    assert (found.scopes, found.credentials) == (("a", "b"), {"sales/*": "key"})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CREDENTIALS", "{not json", "not JSON"),
        ("CREDENTIALS", '{"sales": "key"}', "not a project/domain pattern"),
        ("URL", "bigquery.example", "not an http or https URL"),
        ("LOCATION", "here/there", "pattern"),
    ],
)
def test_a_bad_value_stops_the_start_and_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"FLYTEAGENTS_BIGQUERY_{name}", value)
    [broken] = discover(["bigquery"]).broken
    assert f"FLYTEAGENTS_BIGQUERY_{name}" in broken.cause
    assert words in broken.cause
    with pytest.raises(ValidationError):
        BigQuerySettings(_env_prefix="FLYTEAGENTS_BIGQUERY_")


def test_the_page_has_every_setting_and_no_other() -> None:
    known = set(variables(BigQuerySettings, prefix_of("bigquery")))
    told = set(re.findall(r"FLYTEAGENTS_BIGQUERY_[A-Z_]+[A-Z]", PAGE.read_text()))
    assert told == known


def test_the_metadata_says_what_is_needed() -> None:
    needed = importlib.metadata.requires("flyteagents-bigquery") or []
    names = {re.split(r"[<>=\[]", one)[0] for one in needed}
    assert names == {"flyteagents", "google-auth"}
