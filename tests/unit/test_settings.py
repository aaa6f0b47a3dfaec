"""The kernel's settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

from flyteagents._kernel.settings import (
    BadSettings,
    KernelSettings,
    prefix_of,
    read,
    read_settings,
    unknown_variables,
)
from flyteagents._settings import Settings

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("FLYTEAGENTS_"):
            monkeypatch.delenv(name)


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTEAGENTS_PLUGINS", " bigquery, duckdb ,")
    monkeypatch.setenv("FLYTEAGENTS_ALLOW", "sales-*/production,*/development")
    settings = read_settings()
    assert settings.plugins == ("bigquery", "duckdb")
    assert settings.allow == ("sales-*/production", "*/development")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FLYTEAGENTS_PORT", "eight thousand"),
        ("FLYTEAGENTS_PORT", "65536"),
        ("FLYTEAGENTS_ON_BROKEN_PLUGIN", "ignore"),
        ("FLYTEAGENTS_MAX_POLLS", "0"),
        ("FLYTEAGENTS_ALLOW", "production"),
        ("FLYTEAGENTS_OUTAGE_PATIENCE", "-1"),
    ],
)
def test_a_bad_value_is_refused_with_the_variables_name_and_an_example(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings) as refused:
        read_settings()
    assert name in str(refused.value)
    assert f"for example {name}=" in str(refused.value)


def test_a_value_that_may_be_a_misplaced_secret_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLYTEAGENTS_PORT", "sk-canary-token")
    with pytest.raises(BadSettings) as refused:
        read_settings()
    assert "canary" not in str(refused.value)


def test_a_certificate_without_its_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTEAGENTS_TLS_CERT", "/tls/tls.crt")
    with pytest.raises(BadSettings, match="FLYTEAGENTS_TLS_KEY"):
        read_settings()


def test_a_variable_that_nothing_reads_is_named_with_the_nearest_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLYTEAGENTS_METRIC_PORT", "1")
    monkeypatch.setenv("FLYTEAGENTS_SECRET_TOKEN", "x")
    assert unknown_variables(KernelSettings.names()) == [
        "nothing reads the variable FLYTEAGENTS_METRIC_PORT; did you mean FLYTEAGENTS_METRICS_PORT?"
    ]


def test_a_variable_of_a_plugin_that_is_not_installed_is_no_misspelt_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLYTEAGENTS_SNOWFLAKE_ACCOUNT", "a")
    assert unknown_variables(KernelSettings.names()) == [
        "nothing reads the variable FLYTEAGENTS_SNOWFLAKE_ACCOUNT; is the plugin snowflake "
        "installed?"
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("FLYTEAGENTS_DATABRICKS_URL", ""),
        ("FLYTEAGENTS_DATABRICS_URL", "; did you mean FLYTEAGENTS_DATABRICKS_URL?"),
    ],
)
def test_a_variable_of_a_plugin_that_is_not_served_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "a")
    assert unknown_variables(KernelSettings.names(), ["databricks", "snowflake"]) == [
        f"nothing reads the variable {name}{meant}; the plugin databricks is installed, and not in "
        "FLYTEAGENTS_PLUGINS"
    ]


def test_a_wrong_value_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTEAGENTS_PORT", "80a0")
    with pytest.raises(BadSettings, match="FLYTEAGENTS_PORT=80a0: Input should be"):
        read_settings()


def test_what_a_check_of_ours_says_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTEAGENTS_ALLOW", "sales")
    with pytest.raises(BadSettings, match="FLYTEAGENTS_ALLOW=sales: 'sales' is not a project"):
        read_settings()


def test_a_kubernetes_service_of_our_name_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTEAGENTS_PORT", "tcp://10.0.0.7:8000")
    monkeypatch.setenv("FLYTEAGENTS_PORT_8000_TCP_ADDR", "10.0.0.7")
    monkeypatch.setenv("FLYTEAGENTS_SERVICE_HOST", "10.0.0.7")
    assert read_settings().port == 8000
    assert unknown_variables(KernelSettings.names()) == []


LINKS_OF_METRICS = {
    "FLYTEAGENTS_METRICS_SERVICE_HOST": "10.0.0.7",
    "FLYTEAGENTS_METRICS_SERVICE_PORT": "9090",
    "FLYTEAGENTS_METRICS_SERVICE_PORT_HTTP": "9090",
    "FLYTEAGENTS_METRICS_PORT": "tcp://10.0.0.7:9090",
    "FLYTEAGENTS_METRICS_PORT_9090_TCP": "tcp://10.0.0.7:9090",
    "FLYTEAGENTS_METRICS_PORT_9090_TCP_PROTO": "tcp",
    "FLYTEAGENTS_METRICS_PORT_9090_TCP_PORT": "9090",
    "FLYTEAGENTS_METRICS_PORT_9090_TCP_ADDR": "10.0.0.7",
    "FLYTEAGENTS_PORT": "udp://[fd00::7]:8000",
}
"""What Kubernetes sets beside the Services `flyteagents-metrics` and `flyteagents`."""


class PluginSettings(Settings):
    port: int = 1234
    service_host: str = ""


@pytest.mark.parametrize("name", LINKS_OF_METRICS)
def test_no_variable_of_a_service_is_a_setting_or_a_misspelt_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each, value in LINKS_OF_METRICS.items():
        monkeypatch.setenv(each, value)
    settings = read_settings()
    assert (settings.port, settings.metrics_port) == (8000, 9090)
    assert name not in " ".join(unknown_variables(KernelSettings.names()))


def test_a_service_named_like_a_plugin_is_no_setting_of_that_plugin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLYTEAGENTS_ACME_PORT", "tcp://10.0.0.7:80")
    monkeypatch.setenv("FLYTEAGENTS_ACME_SERVICE_HOST", "10.0.0.7")
    assert read(PluginSettings, prefix_of("acme")) == PluginSettings()


def test_a_variable_in_the_form_of_a_link_is_a_setting_where_there_is_no_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLYTEAGENTS_ACME_PORT", "80")
    monkeypatch.setenv("FLYTEAGENTS_ACME_SERVICE_HOST", "a.example")
    found = read(PluginSettings, prefix_of("acme"))
    assert (found.port, found.service_host) == (80, "a.example")


def test_a_plugins_prefix_follows_from_its_name() -> None:
    assert prefix_of("big-query.v2") == "FLYTEAGENTS_BIG_QUERY_V2_"


def test_the_page_in_docs_lists_every_setting_with_its_default() -> None:
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| `FLYTEAGENTS_")]
    documented = {line.split("`")[1]: line for line in rows}
    for name, field in zip(
        KernelSettings.names(), KernelSettings.model_fields.values(), strict=True
    ):
        assert name in documented, f"docs/settings.md does not list {name}"
        assert str(field.description) in documented[name], f"docs/settings.md: {name}"
        allowed = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        for value in allowed:
            assert f"`{value}`" in documented[name], f"docs/settings.md: {name} may be {value}"
        default = field.default
        if isinstance(default, tuple):
            default = ",".join(default)
        if isinstance(default, bool | float):  # as `check` shows them
            default = str(default).lower().removesuffix(".0")
        if default not in (None, ""):
            assert f"`{default}`" in documented[name], f"docs/settings.md: default of {name}"
    assert set(documented) <= {*KernelSettings.names(), "FLYTEAGENTS_SECRET_<NAME>"}
