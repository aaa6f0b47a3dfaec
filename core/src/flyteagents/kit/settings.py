"""Types of settings that most vendors need."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

__all__ = ["BaseUrl"]


def _base(value: str) -> str:
    text = value.strip().rstrip("/")
    try:
        parts = urlsplit(text)
        sound = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port or an IPv6 address that is none
        sound = False
    if not sound or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        # Without the value: it may hold a password.
        raise ValueError("it is not an http or https URL of a service")
    return text


BaseUrl = Annotated[str, AfterValidator(_base)]
"""The type of a setting for the address of an API: http or https, without a slash at its end."""
