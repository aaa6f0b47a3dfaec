"""Credentials from the text of a key.

A key may come from a user's secret, so what it may do is checked before google-auth reads it: a
key names the addresses that its secrets are sent to, and one kind of it files and programs.

https://cloud.google.com/docs/authentication/external/externally-sourced-credentials
"""

from __future__ import annotations

import fnmatch
import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from flyteagents import InvalidTask, Unauthenticated
from flyteagents.kit.texts import excerpt

_ADDRESSES = ("token_uri", "token_url", "service_account_impersonation_url", "token_info_url")
_AMAZON = "urn:ietf:params:aws:token-type:aws4_request"
# Nothing that two libraries could read as two hosts: to urllib3, which sends the request, a host
# ends at a backslash, and to urllib it does not.
_PLAIN = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?(/[!-\[\]-~]*)?")


@dataclass(frozen=True)
class Trust:
    """What keys out of secrets may do: the hosts that they may name, and whether they may make
    this service read a file or a URL."""

    hosts: Sequence[str] = ("*.googleapis.com",)
    federated: bool = False


def from_secret(
    info: Mapping[str, Any], scopes: Sequence[str], trust: Trust, shown: str = "the key"
) -> Any:
    """google-auth's credentials of a key, which `shown` names in errors. Raises InvalidTask for one
    that may not do what it asks for, Unauthenticated for one that is none."""
    for name, url in _addresses(info):
        parts = urlsplit(url if _PLAIN.fullmatch(url) else "")
        host = parts.hostname or ""
        safe = parts.scheme == "https" or host in trust.hosts
        if not safe or not any(fnmatch.fnmatchcase(host, pattern) for pattern in trust.hosts):
            raise InvalidTask(
                f"the key's {name} is not an address of Google's; the operator can allow others "
                "with FLYTEAGENTS_BIGQUERY_KEY_HOSTS"
            )

    kind = info.get("type")
    if kind == "service_account":
        service_account = credentials_of("google.oauth2.service_account")
        return service_account.from_service_account_info(info, scopes=scopes)
    if kind == "authorized_user":
        user = credentials_of("google.oauth2.credentials")
        return user.from_authorized_user_info(info, scopes)
    if kind == "impersonated_service_account":
        impersonated = credentials_of("google.auth.impersonated_credentials")
        return impersonated.from_impersonated_service_account_info(info, scopes)
    if kind == "external_account":
        _check_federated(info, trust)
        return federated(info, scopes)
    raise Unauthenticated(
        f"{shown} is of the type {excerpt(str(kind or 'none'), 40)!r}, and a key has "
        "service_account, authorized_user, impersonated_service_account or external_account; make "
        "a key of a service account, and store its JSON file"
    )


def federated(info: Mapping[str, Any], scopes: Sequence[str]) -> Any:
    """Credentials of a workload identity federation. `google.auth.default` would look the project
    of its pool up, with a token and at a service that may not be reachable; nobody needs it."""
    module = "google.auth.identity_pool"
    if info.get("subject_token_type") == _AMAZON:
        module = "google.auth.aws"
    elif "executable" in (info.get("credential_source") or {}):
        module = "google.auth.pluggable"
    return credentials_of(module).from_info(info, scopes=scopes)


def credentials_of(module: str) -> Any:
    """The Credentials of one of google-auth's modules, which have no types."""
    return importlib.import_module(module).Credentials


def _check_federated(info: Mapping[str, Any], trust: Trust) -> None:
    if not trust.federated:
        raise InvalidTask(
            "a secret may not hold an external_account configuration, since that makes the "
            "service read a file or a URL; the operator can allow it with "
            "FLYTEAGENTS_BIGQUERY_FEDERATED_SECRETS"
        )
    if "executable" in (info.get("credential_source") or {}):
        raise InvalidTask("a secret may not name a program to run")


def _addresses(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The addresses that get the key's secrets, or what is made of them."""
    for name in _ADDRESSES:
        if info.get(name):
            yield name, str(info[name])
    universe = info.get("universe_domain")
    if universe:
        yield "universe_domain", f"https://bigquery.{universe}"
    inner = info.get("source_credentials")
    if isinstance(inner, Mapping):
        yield from _addresses(inner)
