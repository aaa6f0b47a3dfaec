"""The plugin's settings: environment variables `FLYTEAGENTS_BIGQUERY_*`."""

from __future__ import annotations

import os

from pydantic import Field

from flyteagents import CommaList, Settings
from flyteagents.kit.credentials import ByTenant
from flyteagents.kit.settings import BaseUrl
from flyteagents_bigquery.names import Location, Project

GOOGLE = "https://bigquery.googleapis.com"
EMULATOR = "BIGQUERY_EMULATOR_HOST"


def _url() -> str:
    host = os.environ.get(EMULATOR, "")
    if not host:
        return GOOGLE
    return host if "://" in host else f"http://{host}"


class BigQuerySettings(Settings):
    """Settings of the BigQuery agent."""

    location: Location | None = Field(
        None,
        description="Where jobs run whose task names no location. BigQuery picks one from the "
        "tables of the query if unset; then a create that runs out of time is tried again by "
        "Flyte instead of being answered.",
        examples=["EU"],
    )
    project: Project | None = Field(
        default_factory=lambda: os.environ.get("GOOGLE_CLOUD_PROJECT") or None,
        description="Project of tasks that name none; `GOOGLE_CLOUD_PROJECT` if unset.",
        examples=["my-project"],
    )
    url: BaseUrl = Field(
        default_factory=_url,
        validate_default=True,
        description="Address of BigQuery's API, for private endpoints; the emulator at "
        "`BIGQUERY_EMULATOR_HOST` if that is set, else Google's.",
        examples=[GOOGLE],
    )
    anonymous: bool = Field(
        default_factory=lambda: bool(os.environ.get(EMULATOR)),
        description="Send no credentials. True where `BIGQUERY_EMULATOR_HOST` is set.",
    )
    credentials: ByTenant = Field(
        {},
        description="Other credentials for some Flyte projects and domains: a JSON object of "
        "project/domain patterns, each with the name of a secret that holds a key, or with the "
        "e-mail of a service account to impersonate. The first that fits counts.",
        examples=['{"sales/*": "sales_key", "*/production": "etl@prod.iam.gserviceaccount.com"}'],
    )
    quota_project: Project | None = Field(
        None,
        description="Project whose quota the API calls count against, if not that of the jobs.",
        examples=["my-project"],
    )
    scopes: CommaList = Field(
        (
            "https://www.googleapis.com/auth/bigquery",
            "https://www.googleapis.com/auth/cloud-platform",
        ),
        description="OAuth scopes, with commas between them. Tables in Google Drive need "
        "`https://www.googleapis.com/auth/drive.readonly` too.",
    )
    key_hosts: CommaList = Field(
        ("*.googleapis.com",),
        description="Patterns of the hosts that a key in a secret may have its tokens from, with "
        "commas between them. Only one named without a wildcard may be asked without TLS.",
    )
    federated_secrets: bool = Field(
        False,
        description="Whether a secret may hold an `external_account` configuration. Such a one "
        "names a file or a URL that this service then reads, so allow it only if everybody whose "
        "tasks send secrets may do that. Application default credentials may always be one.",
    )
