"""Which environment variables are settings of ours, and which Kubernetes has put there.

For every Service in its namespace, Kubernetes sets variables in each pod, in the form of Docker's
links: a Service `flyteagents-metrics` brings `FLYTEAGENTS_METRICS_PORT=tcp://10.0.0.7:9090`, which
is the name of a setting.
https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set

from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

PREFIX = "FLYTEAGENTS_"

_LINK = re.compile(r"(tcp|udp|sctp)://(\[[^\]]+\]|[^/:]+):\d+")
_OF_A_SERVICE = re.compile(
    r"SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?"
)


def service_links(environment: Mapping[str, str]) -> Set[str]:
    """The names of all variables that Services have brought whose names begin with ours.

    A Service is known by its `<NAME>_PORT`, whose value no setting has; the others go with it.
    """
    services = [
        name.removesuffix("PORT")
        for name, value in environment.items()
        if name.upper().startswith(PREFIX) and name.upper().endswith("_PORT") and _is_link(value)
    ]
    return {
        name
        for name in environment
        for service in services
        if name.startswith(service) and _OF_A_SERVICE.fullmatch(name[len(service) :].upper())
    }


def _is_link(value: str | None) -> bool:
    return bool(value and _LINK.fullmatch(value))


class FromEnvironment(BaseSettings):
    """Settings that are read from the environment, whatever Services there are."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        if isinstance(env_settings, EnvSettingsSource):
            # pydantic-settings has the names in lower case here, unless a model is case-sensitive.
            given = {name.upper(): value or "" for name, value in env_settings.env_vars.items()}
            linked = service_links(given)
            env_settings.env_vars = {
                name: value
                for name, value in env_settings.env_vars.items()
                if name.upper() not in linked
            }
        return init_settings, env_settings, dotenv_settings, file_secret_settings
