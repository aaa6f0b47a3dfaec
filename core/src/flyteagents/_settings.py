"""The base of a plugin's settings."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BeforeValidator
from pydantic_settings import NoDecode, SettingsConfigDict

from flyteagents._environment import FromEnvironment


class Settings(FromEnvironment):
    """Subclass with the plugin's settings; the kernel reads them from the environment.

    The prefix follows from the plugin's entry-point name: `url` of the plugin `acme` is
    `FLYTEAGENTS_ACME_URL`. Give every field a description and, where it has no default, an
    example: `flyteagents check` and the error for a bad value show them.
    Secrets do not belong here but are asked for by name, with `call.secret`.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore")


SettingsT = TypeVar("SettingsT", bound=Settings)


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""The type of a setting whose variable holds several texts with commas between them."""
