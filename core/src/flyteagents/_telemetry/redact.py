"""Masks what looks like a secret in texts that leave the process."""

from __future__ import annotations

import re

_SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\bey[JK][\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"  # a JWT
    r"|\bya29\.[\w.-]{8,}"  # Google's access tokens
    r"|\bdapi[0-9a-f]{16,}"  # Databricks' personal tokens
    # "Bearer authentication failed" is prose; a token has more than letters, or is long.
    r"|(?P<scheme>\b(?:bearer|basic)\s+)(?:[\w.~+/=-]{16,}|(?=[a-z]*[\d_.~+/=-])[\w.~+/=-]{6,})"
    r"|(?P<user>://[^\s:/@]*:)[^\s/@]+(?=@)"
    r"|(?P<name>\b\w*(?:token|password|passwd|secret|api_?key|private_?key|signature)\w*"
    # "Unexpected token: SELECT" is prose too, so it takes `name=value` or `"name": "value"`.
    r"(?:=[\"']?|\\?[\"']\s*:\s*\\?[\"']))[^\s\"',;&\\]{4,}",
    re.DOTALL | re.IGNORECASE,
)


def redact(text: str) -> str:
    """`text` with bearer tokens, private keys, passwords and the like masked."""
    return _SECRETS.sub(_mask, text)


def _mask(match: re.Match[str]) -> str:
    return f"{match['scheme'] or match['user'] or match['name'] or ''}[redacted]"
