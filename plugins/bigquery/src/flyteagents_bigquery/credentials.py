"""Access tokens from Google's auth library, which blocks: everything here runs in threads.

google-auth is imported where it is used: it takes a while, and an emulator needs none of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timezone
from pathlib import Path
from typing import Any

from flyteagents import AgentError, Unauthenticated, Unavailable
from flyteagents.kit.tokens import Token
from flyteagents_bigquery.keys import Trust, credentials_of, federated, from_secret
from flyteagents_bigquery.transport import Transport

UNKNOWN_LIFE = 300.0
"""Seconds for which a token is used that does not say how long it lasts."""
GOOGLE_UNIVERSE = "googleapis.com"
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
METADATA = "http://169.254.169.254"
# The kubelet, or whoever writes the file, had not replaced the subject token yet.
_NOT_YET = re.compile(r"\bstale\b|\bexpired\b|not yet valid|too early", re.I)
# In OAuth's one word for it Google tells all of these.
_NOT_GRANTED = (
    "the key or its account may be deleted, disabled or expired, or this machine's clock be wrong"
)
_ON_GOOGLE = (
    "GCE_METADATA_HOST",
    "GCE_METADATA_ROOT",
    "GCE_METADATA_IP",
    "K_SERVICE",
    "CLOUD_RUN_JOB",
)


@dataclass(frozen=True)
class GoogleToken(Token):
    """quota_project: what Google's own libraries would send as `x-goog-user-project`.
    universe: the domain of the cloud that it is for. account: the service account's e-mail, empty
    where the token is none's."""

    quota_project: str | None = None
    universe: str = GOOGLE_UNIVERSE
    account: str = ""


@dataclass(frozen=True)
class Source:
    """Where a token comes from: a key (JSON text), or a service account that the application
    default credentials impersonate, or those themselves. `shown` names it in errors."""

    key: str = field(default="", repr=False)
    impersonate: str = ""
    shown: str = "the application default credentials"

    @property
    def identity(self) -> str:
        return f"{self.impersonate}\0{self.key}"


def obtain(source: Source, scopes: Sequence[str], trust: Trust) -> GoogleToken:
    """A new token. Raises Unauthenticated, Unavailable where it cannot be had yet, or InvalidTask
    for a key that may not do what it asks for."""
    from google.auth.exceptions import GoogleAuthError

    transport = Transport()
    credentials: Any = None
    try:
        credentials = _credentials(source, list(scopes), trust, transport)
        credentials.refresh(transport)
    except GoogleAuthError as error:
        passing = transport.passing or error.retryable or _not_yet(credentials, error)
        raise _told(source, error, passing) from None
    except AgentError:
        raise
    except OSError as error:  # a file that a configuration names
        raise Unauthenticated(f"{source.shown}: {error.strerror or type(error).__name__}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # google-auth's reading of a malformed key. Its text may quote the key.
        raise Unauthenticated(
            f"{source.shown} cannot be read ({type(error).__name__}): keep the JSON file as Google "
            "gave it out, with the \\n in its private_key"
        ) from None

    expires = time.time() + UNKNOWN_LIFE
    if credentials.expiry is not None:
        # google-auth's times are UTC, and have no zone.
        expires = credentials.expiry.replace(tzinfo=timezone.utc).timestamp()
    return GoogleToken(
        credentials.token,
        expires,
        quota_project=getattr(credentials, "quota_project_id", None),
        universe=credentials.universe_domain,
        account=getattr(credentials, "service_account_email", None) or "",
    )


def _credentials(source: Source, scopes: list[str], trust: Trust, transport: Transport) -> Any:
    if source.key:
        return from_secret(_read(source), scopes, trust, source.shown)
    if not source.impersonate:
        return _default(scopes, transport)
    # The service that makes the other account's token wants the scope of the whole platform;
    # the configured scopes are those of the token that it makes.
    impersonated = credentials_of("google.auth.impersonated_credentials")
    return impersonated(_default([CLOUD_PLATFORM], transport), source.impersonate, scopes)


def _read(source: Source) -> Mapping[str, Any]:
    info = _json(source.key)
    if info is None:
        raise Unauthenticated(
            f"{source.shown} is not a key: it must be the text of a JSON file, and not its path"
        )
    return info


def _default(scopes: list[str], transport: Transport) -> Any:
    """The application default credentials, found as google-auth finds them, but without its
    look-ups of a project: they cost requests, and fail where their service is not reachable.

    https://cloud.google.com/docs/authentication/application-default-credentials
    """
    named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    if named:
        info = _json(Path(named).read_text()) if Path(named).is_file() else None
        if info is not None and info.get("type") == "external_account":
            return federated(info, scopes).with_quota_project_from_environment()
    if named or _gcloud().is_file():
        import google.auth

        return google.auth.default(scopes=scopes)[0]

    _see_metadata_server(transport)
    universe = os.environ.get("GOOGLE_CLOUD_UNIVERSE_DOMAIN") or GOOGLE_UNIVERSE
    machine = credentials_of("google.auth.compute_engine")
    return machine(scopes=scopes, universe_domain=universe).with_quota_project_from_environment()


def _gcloud() -> Path:
    """Where `gcloud auth application-default login` puts them."""
    folder = Path(os.environ.get("CLOUDSDK_CONFIG") or "~/.config/gcloud")
    # For a user who has neither a HOME nor a name, as in some containers.
    with contextlib.suppress(RuntimeError):
        folder = folder.expanduser()
    return folder / "application_default_credentials.json"


def _see_metadata_server(transport: Transport) -> None:
    """Raises Unauthenticated where there is none. Where this may be one of Google's machines, it
    is not asked for first: in a fresh pod it answers late, and that passes."""
    from google.auth.compute_engine import detect_gce_residency_linux
    from google.auth.exceptions import TransportError

    if any(map(os.environ.get, _ON_GOOGLE)):
        return
    if detect_gce_residency_linux():  # type: ignore[no-untyped-call] # google-auth has no types
        return
    with contextlib.suppress(TransportError):
        # Other clouds have a server at this address as well.
        flavor = {"metadata-flavor": "Google"}
        if transport(METADATA, headers=flavor).headers.get("metadata-flavor") == "Google":
            return
    raise Unauthenticated(
        "there are no application default credentials here: set GOOGLE_APPLICATION_CREDENTIALS, "
        "or run `gcloud auth application-default login`"
    )


def _not_yet(credentials: Any, error: Exception) -> bool:
    """Whether a refusal says that the machine is not ready: its metadata server answers 404 until
    then, and the token of a federation may be an old one for a moment."""
    of = type(credentials).__module__
    if of.startswith("google.auth.compute_engine"):
        return True
    federations = ("google.auth.identity_pool", "google.auth.aws", "google.auth.pluggable")
    return of in federations and bool(_NOT_YET.search(str(error.args[0]) if error.args else ""))


def _told(source: Source, error: Exception, passing: bool) -> AgentError:
    """google-auth's error; its second argument is a whole reply."""
    text = str(error.args[0]) if error.args else type(error).__name__
    kind = Unavailable if passing else Unauthenticated
    hint = f" | {_NOT_GRANTED}" if "invalid_grant" in text else ""
    return kind(f"no access token from {source.shown}: {text}{hint}")


def _json(text: str) -> Mapping[str, Any] | None:
    try:
        info = json.loads(text)
    except ValueError:
        return None
    return info if isinstance(info, dict) else None
