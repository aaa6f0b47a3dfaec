"""What names a run to Databricks, and what the SDKs' own connectors wrote for theirs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SecretStr, SerializerFunctionWrapHandler, StringConstraints
from pydantic import model_serializer as serializer

from flyteagents import Job, Name
from flyteagents_databricks.places import Host
from flyteagents_databricks.settings import AuthType

RunId = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,18}$")]
Page = Annotated[str, StringConstraints(pattern=r"^https?://[^\s\"<>]{1,300}$")]
_Object = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{0,252}$")]
"""A name of a Kubernetes object."""


AS_WRITTEN = {
    "cluster": "existing_cluster_id",
    "client_id": "databricks_client_id",
    "token_secret": "databricks_token_secret",
    "oauth_secret_name": "databricks_oauth_secret",
    "oidc_audience": "databricks_oidc_audience",
}
"""What tasks call the fields that come from them."""


class DatabricksJob(Job):
    """The names are those of flytekit's connector, whose runs are taken over as they are.

    page: the run's page, as Databricks gave it. cluster: the existing cluster that it runs on.
    limited: whether the limit of its time is the Flyte task's.
    auth_type, client_id, namespace and the names of secrets: how the run was submitted, where
        that does not follow from the settings. Secrets themselves are looked up in every call.
    auth_token: of flytekit's connector alone, which put it here. It serves this run and is never
        written again. oidc_token_file: read and not used; a file comes from the settings.
    """

    databricks_instance: Host
    run_id: RunId
    page: Page | None = None
    cluster: Name | None = None
    limited: bool | None = None

    auth_type: AuthType | None = None
    client_id: Name | None = None
    namespace: _Object | None = None
    token_secret: _Object | None = None
    oauth_secret_name: _Object | None = None
    oidc_service_account: _Object | None = None
    oidc_audience: Annotated[str, StringConstraints(max_length=256)] | None = None

    auth_token: SecretStr | None = Field(None, exclude=True, repr=False)
    oidc_token_file: str | None = Field(None, max_length=4096, exclude=True, repr=False)

    @serializer(mode="wrap")
    def _short(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is not there takes no room."""
        return {name: value for name, value in write(self).items() if value is not None}

    @property
    def number(self) -> int:
        return int(self.run_id)

    def __str__(self) -> str:
        return f"{self.databricks_instance}/run/{self.run_id}"
