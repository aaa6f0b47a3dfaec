"""The plugin's settings: environment variables `FLYTEAGENTS_DATABRICKS_*`.

Where today's deployments have a variable of their own for the same, that one is the default.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from flyteagents import Settings
from flyteagents.kit.credentials import ByTenant
from flyteagents.kit.settings import BaseUrl
from flyteagents_databricks.places import instance_url

AuthType = Literal["pat", "oauth_m2m", "oidc_federation"]
PROJECTED_TOKEN = "/var/run/secrets/databricks/token"  # noqa: S105 # a path
"""Where flytekit's connector looks for a token of its own service account at last."""


def _variable(*names: str) -> str | None:
    """The first of these environment variables that is set."""
    return next(filter(None, (os.environ.get(name, "").strip() for name in names)), None)


def _token_file() -> Path | None:
    named = _variable(
        "FLYTE_DATABRICKS_OIDC_TOKEN_FILE",
        "DATABRICKS_OIDC_TOKEN_FILEPATH",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    )
    path = Path(named or PROJECTED_TOKEN)
    return path if named or path.exists() else None


def _instance(value: object) -> object:
    return instance_url(value) if isinstance(value, str) and value.strip() else None


def _not_shared(value: str) -> str:
    folder = "/" + value.strip().strip("/")
    if folder.removeprefix("/Workspace").startswith("/Shared"):
        raise ValueError(
            "all users of a workspace may write to /Shared, and what lies there runs with other "
            "people's credentials; name a folder that only the service writes to"
        )
    return folder


class DatabricksSettings(Settings):
    """Settings of the Databricks agent."""

    instance: Annotated[str | None, BeforeValidator(_instance)] = Field(
        default_factory=lambda: _variable("FLYTE_DATABRICKS_INSTANCE"),
        validate_default=True,
        description="Workspace of tasks that name none; `FLYTE_DATABRICKS_INSTANCE` if unset.",
        examples=["my-workspace.cloud.databricks.com"],
    )
    url: BaseUrl | None = Field(
        None,
        description="One address for all workspaces that tasks name: a private link, or a test "
        "server. The hosts that tasks name are then never contacted.",
        examples=["https://databricks.internal.example"],
    )
    serve_spark: bool = Field(
        False,
        description="Serve the task type `spark` too, which flytekit's older `Databricks` writes. "
        "Only where no task of that type is to run on Kubernetes.",
    )
    auth_type: AuthType | None = Field(
        default_factory=lambda: _variable("FLYTE_DATABRICKS_AUTH_TYPE"),
        validate_default=True,
        description="How to log in, for tasks that do not say it: `pat`, `oauth_m2m` or "
        "`oidc_federation`; `FLYTE_DATABRICKS_AUTH_TYPE` if unset, and else what there are "
        "credentials for.",
        examples=["oauth_m2m"],
    )
    client_id: str | None = Field(
        default_factory=lambda: _variable("DATABRICKS_CLIENT_ID"),
        description="The service principal; `DATABRICKS_CLIENT_ID` if unset. Its secret is "
        "`databricks_client_secret`, or `DATABRICKS_CLIENT_SECRET`.",
        examples=["6a5b0a7e-0000-4000-8000-000000000000"],
    )
    credentials: ByTenant = Field(
        {},
        description="Credentials of their own for some Flyte projects and domains: a JSON object "
        "of project/domain patterns, each with the name of a secret, which holds a personal "
        'access token or `{"client_id": ..., "client_secret": ...}`. `NAME@HOST` counts for '
        "workspaces that fit the pattern HOST. The first that fits counts.",
        examples=['{"sales/*": "sales_token", "*/production": "robot"}'],
    )
    namespace_secrets: bool = Field(
        default_factory=lambda: bool(os.environ.get("KUBERNETES_SERVICE_HOST")),
        description="Look into the Kubernetes namespace of the task first: for the secret "
        "`databricks-token`, or `databricks-oauth`, or a service account with the label "
        "`flyte.org/databricks-enabled`. On in a cluster; needs a role that may read them.",
    )
    oauth_secret_name: str = Field(
        default_factory=lambda: (
            _variable("FLYTE_DATABRICKS_OAUTH_SECRET_NAME") or "databricks-oauth"
        ),
        description="Name of the namespace's secret for `oauth_m2m`; "
        "`FLYTE_DATABRICKS_OAUTH_SECRET_NAME` if unset.",
    )
    oidc_token_file: Path | None = Field(
        default_factory=_token_file,
        description="File with a token of the service's own account, for `oidc_federation`; "
        "`FLYTE_DATABRICKS_OIDC_TOKEN_FILE`, `DATABRICKS_OIDC_TOKEN_FILEPATH` or "
        "`AWS_WEB_IDENTITY_TOKEN_FILE` if unset. No task can name one.",
        examples=[PROJECTED_TOKEN],
    )
    oidc_audience: str = Field(
        default_factory=lambda: _variable("FLYTE_DATABRICKS_OIDC_AUDIENCE") or "databricks",
        description="Audience of tokens for a namespace's service account; "
        "`FLYTE_DATABRICKS_OIDC_AUDIENCE` if unset.",
    )
    service_credential_provider: str | None = Field(
        default_factory=lambda: _variable("FLYTE_DATABRICKS_SERVICE_CREDENTIAL_PROVIDER"),
        description="Databricks service credential by which serverless tasks reach Flyte's store; "
        "`FLYTE_DATABRICKS_SERVICE_CREDENTIAL_PROVIDER` if unset.",
        examples=["flyte-s3"],
    )
    docker_image: bool = Field(
        True,
        description="Give new clusters the task's image. Turn it off where the workspace does not "
        "allow Container Services.",
    )
    retry_failed_code: bool = Field(
        True,
        description="Whether Flyte may retry a task whose code failed and did not say whether it "
        "may be. What the code says itself always counts.",
    )
    entrypoint_folder: Annotated[str, AfterValidator(_not_shared)] | None = Field(
        None,
        description="Workspace folder that the entrypoint is delivered to; the home of the "
        "service's own principal if unset. Only that principal may write there.",
        examples=["/Workspace/Users/6a5b0a7e-0000-4000-8000-000000000000/flyteagents"],
    )
    # Not in dumps: the kernel gives credentials to the hosts of all addresses that it finds there.
    entrypoint_path: str | None = Field(
        None,
        exclude=True,
        description="Path of an entrypoint that you have put there yourself: in the workspace, a "
        "volume or a bucket. Nothing is delivered then.",
        examples=["/Volumes/main/flyte/code/flyteagents_entrypoint.py"],
    )
    entrypoint_git_url: str | None = Field(
        None,
        exclude=True,
        description="Git repository that has the entrypoint; `ENTRYPOINT_PATH` is then a path in "
        "it. Nothing is delivered then.",
        examples=["https://git.example.com/mirrors/flyteagents"],
    )
    entrypoint_git_provider: str = Field("gitHub", description="Databricks' name for its kind.")
    entrypoint_git_commit: str | None = Field(
        None, description="The commit to take it from.", examples=["8f3c2d1"]
    )

    @field_validator("entrypoint_git_url")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        if value is not None and "@" in value.partition("://")[2].partition("/")[0]:
            raise ValueError("it has a user in it; give the workspace a Git credential instead")
        return value
