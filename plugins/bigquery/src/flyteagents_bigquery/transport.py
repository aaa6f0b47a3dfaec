"""google-auth's requests, within limits of ours.

google-auth limits a request only where its caller does, gives the metadata server three seconds
and then asks it again up to five times, and does not tell in its errors how a request went. So all
its requests go through one object, which limits them and remembers how the last one ended.
"""

from __future__ import annotations

import os
import time
from typing import Any
from urllib.parse import urlsplit

from flyteagents import Unavailable

LIMIT = 10.0
"""Seconds that one request may take. The metadata server of a fresh pod may need six."""
ALL = 30.0
"""Seconds that all requests for one token may take together."""
_METADATA = ("metadata.google.internal", "metadata", "169.254.169.254")
_BUSY = (408, 425, 429)


class Transport:
    """A `google.auth.transport.Request` for one token.

    passing: whether the last request failed in a way that may pass: with no reply, or with one
        that says "not now". False where none was sent.
    """

    def __init__(self) -> None:
        from google.auth.transport.requests import Request

        self._request = Request()
        self.session = self._request.session  # google-auth puts its mutual TLS into it
        self.passing = False
        self._until = time.monotonic() + ALL

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
        **more: Any,
    ) -> Any:
        """The reply. Raises google-auth's TransportError without one; Unavailable, which
        google-auth does not take for a reason to go on, when the time for all is over."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise Unavailable(f"no access token within {ALL:g} s")
        self.passing = True
        # Another host would not be checked, and a 307 has the key's secrets sent there again.
        more["allow_redirects"] = False
        if _is_metadata(url):
            # It answers to its own machine alone. "" and not None, which requests takes for unset.
            more["proxies"] = {"http": ""}
        reply = self._request(url, method, body, headers, timeout=min(LIMIT, left), **more)
        self.passing = reply.status in _BUSY or reply.status >= 500 or 300 <= reply.status < 400
        return reply


def _is_metadata(url: str) -> bool:
    """Whether it is the machine's own metadata server."""
    host = urlsplit(url).netloc
    return host in (*_METADATA, os.environ.get("GCE_METADATA_HOST"))
