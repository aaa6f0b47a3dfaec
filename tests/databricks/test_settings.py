"""What the environment says: variables of today's deployments mean what they mean there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flyteagents._kernel.plugins import discover
from flyteagents_databricks.settings import DatabricksSettings

THEIRS: dict[str, tuple[str, str, Any]] = {
    "FLYTE_DATABRICKS_INSTANCE": ("instance", "My.cloud.databricks.com", "https://my.cloud."),
    "FLYTE_DATABRICKS_AUTH_TYPE": ("auth_type", "oauth_m2m", "oauth_m2m"),
    "DATABRICKS_CLIENT_ID": ("client_id", "robot", "robot"),
    "FLYTE_DATABRICKS_OAUTH_SECRET_NAME": ("oauth_secret_name", "robots", "robots"),
    "FLYTE_DATABRICKS_OIDC_TOKEN_FILE": ("oidc_token_file", "/flyte", "/flyte"),
    "DATABRICKS_OIDC_TOKEN_FILEPATH": ("oidc_token_file", "/databricks", "/databricks"),
    "AWS_WEB_IDENTITY_TOKEN_FILE": ("oidc_token_file", "/aws", "/aws"),
    "FLYTE_DATABRICKS_OIDC_AUDIENCE": ("oidc_audience", "us", "us"),
    "FLYTE_DATABRICKS_SERVICE_CREDENTIAL_PROVIDER": ("service_credential_provider", "s3", "s3"),
}


def settings() -> DatabricksSettings:
    [plugin] = discover(["databricks"]).plugins
    found = plugin.settings[DatabricksSettings]
    assert isinstance(found, DatabricksSettings)
    return found


@pytest.mark.parametrize("variable", THEIRS)
def test_a_variable_of_todays_deployments_counts_until_there_is_one_of_ours(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    name, value, read = THEIRS[variable]
    monkeypatch.setenv(variable, value)
    assert str(getattr(settings(), name)).startswith(read)
    ours = "pat" if name == "auth_type" else "ours.cloud.databricks.com"
    monkeypatch.setenv(f"FLYTEAGENTS_DATABRICKS_{name.upper()}", ours)
    assert ours in str(getattr(settings(), name))


def test_of_the_token_files_flytes_own_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, (name, value, _) in THEIRS.items():
        if name == "oidc_token_file":
            monkeypatch.setenv(variable, value)
    assert settings().oidc_token_file == Path("/flyte")


def test_namespaces_are_looked_into_where_there_is_kubernetes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not settings().namespace_secrets
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert settings().namespace_secrets


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"instance": "not a host"}, "not the host of a workspace"),
        ({"auth_type": "password"}, "oauth_m2m"),
        ({"entrypoint_folder": "/Shared/x"}, "other people's credentials"),
        ({"entrypoint_git_url": "https://me:secret@git.example/r"}, "Git credential"),
        ({"credentials": {"sales": "token"}}, "project"),
    ],
)
def test_a_wrong_value_says_what_is_wrong(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        DatabricksSettings(**wrong)
