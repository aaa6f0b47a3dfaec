"""Access tokens from Google's auth library, which blocks: everything here runs in threads.

google-auth is imported where it is used: it takes a while, and an emulator needs none of it.
"""

from __future__ import annotations

import fnmatch
import functools
import importlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timezone
from typing import Any
from urllib.parse import urlsplit

from flyteagents import AgentError, InvalidTask, Unauthenticated, Unavailable

LIMIT = 10.0
"""Seconds that one request for a token may take."""
UNKNOWN_LIFE = 300.0
"""Seconds for which a token is used that does not say how long it lasts."""


@dataclass(frozen=True)
class Token:
    """An access token. `expires` is a time of `time.time()`."""

    value: str = field(repr=False)
    expires: float
    quota_project: str | None = None


@dataclass(frozen=True)
class Source:
    """Where a token comes from: a key (JSON text), or a service account that the application
    default credentials impersonate, or those themselves. `shown` names it in errors."""

    key: str = field(default="", repr=False)
    impersonate: str = ""
    shown: str = "the application default credentials"


@dataclass(frozen=True)
class Trust:
    """What keys out of secrets may do: the hosts that they may name, and whether they may make
    this service read a file or a URL."""

    hosts: Sequence[str] = ("*.googleapis.com",)
    federated: bool = False


def obtain(source: Source, scopes: Sequence[str], trust: Trust) -> Token:
    """A new token. Raises Unauthenticated, Unavailable, or InvalidTask for a key that is none."""
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.auth.transport.requests import Request

    request = functools.partial(Request(), timeout=LIMIT)
    try:
        credentials = _credentials(source, list(scopes), trust)
        credentials.refresh(request)
    except GoogleAuthError as error:
        passing = isinstance(error, TransportError) or error.retryable
        raise _told(source, error, passing) from None
    except AgentError:
        raise
    except OSError as error:  # a file that a configuration names
        raise Unauthenticated(f"{source.shown}: {error.strerror or type(error).__name__}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # google-auth's reading of a malformed key. Its text may quote the key.
        raise Unauthenticated(
            f"{source.shown} cannot be used: {type(error).__name__} while reading them"
        ) from None
    expiry = credentials.expiry
    lasts = time.time() + UNKNOWN_LIFE
    if expiry is not None:
        lasts = expiry.replace(tzinfo=timezone.utc).timestamp()
    return Token(credentials.token, lasts, getattr(credentials, "quota_project_id", None))


def _credentials(source: Source, scopes: list[str], trust: Trust) -> Any:
    import google.auth

    if source.key:
        return _from_key(_read(source), scopes, trust)
    if not source.impersonate:
        return google.auth.default(scopes=scopes)[0]
    own, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    return _class("google.auth.impersonated_credentials")(own, source.impersonate, scopes)


def _read(source: Source) -> Mapping[str, Any]:
    try:
        info = json.loads(source.key)
    except ValueError:
        info = None
    if not isinstance(info, dict):
        raise Unauthenticated(f"{source.shown} is not a key: it must be the text of a JSON file")
    return info


def _from_key(info: Mapping[str, Any], scopes: list[str], trust: Trust) -> Any:
    """Credentials from a key, whose addresses are checked: it may come from a user.

    https://cloud.google.com/docs/authentication/external/externally-sourced-credentials
    """
    for name, url in _addresses(info):
        parts = urlsplit(url)
        host = parts.hostname or ""
        safe = parts.scheme == "https" or host in trust.hosts
        if not safe or not any(fnmatch.fnmatchcase(host, pattern) for pattern in trust.hosts):
            raise InvalidTask(
                f"the key's {name} is not an address of Google's; the operator can allow others "
                "with FLYTEAGENTS_BIGQUERY_KEY_HOSTS"
            )
    kind = info.get("type")
    if kind == "service_account":
        loads = _class("google.oauth2.service_account").from_service_account_info
        return loads(info, scopes=scopes)
    if kind == "authorized_user":
        return _class("google.oauth2.credentials").from_authorized_user_info(info, scopes)
    if kind == "impersonated_service_account":
        impersonated = _class("google.auth.impersonated_credentials")
        return impersonated.from_impersonated_service_account_info(info, scopes)
    if kind == "external_account":
        return _federated(info, scopes, trust.federated)
    raise Unauthenticated(
        "a key must have the type service_account, authorized_user, "
        "impersonated_service_account or external_account"
    )


def _federated(info: Mapping[str, Any], scopes: list[str], allowed: bool) -> Any:
    if not allowed:
        raise InvalidTask(
            "a secret may not hold an external_account configuration, since that makes the "
            "service read a file or a URL; the operator can allow it with "
            "FLYTEAGENTS_BIGQUERY_FEDERATED_SECRETS"
        )
    source = info.get("credential_source") or {}
    if "executable" in source:
        raise InvalidTask("a secret may not name a program to run")
    amazon = str(source.get("environment_id", "")).startswith("aws")
    module = "google.auth.aws" if amazon else "google.auth.identity_pool"
    return _class(module).from_info(info, scopes=scopes)


def _class(module: str) -> Any:
    """The Credentials of one of google-auth's modules, which have no types."""
    return importlib.import_module(module).Credentials


def _addresses(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The addresses that get the key's secrets, or what is made of them."""
    names = ("token_uri", "token_url", "service_account_impersonation_url", "token_info_url")
    for name in names:
        if info.get(name):
            yield name, str(info[name])
    universe = info.get("universe_domain")
    if universe:
        yield "universe_domain", f"https://bigquery.{universe}"
    inner = info.get("source_credentials")
    if isinstance(inner, Mapping):
        yield from _addresses(inner)


def _told(source: Source, error: Exception, passing: bool) -> AgentError:
    """google-auth's error; its second argument is a whole reply."""
    text = str(error.args[0]) if error.args else type(error).__name__
    kind = Unavailable if passing else Unauthenticated
    return kind(f"no access token from {source.shown}: {text[:300]}")
