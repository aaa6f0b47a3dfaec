"""What a request says: its URL, its headers and its body, made of what the agent gave.

It is apart from the connections because everything here is decided before anything is sent, and
because this is where a path or a credential that came over the wire is refused.
"""

from __future__ import annotations

import contextlib
import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlencode

import yarl
from importlib_metadata import version

from flyteagents._errors import Forbidden, InvalidTask, Unauthenticated
from flyteagents._http import Endpoint, Sent
from flyteagents._redact import remember

_HEADERS = {
    "accept": "application/json",
    # aiohttp's own value depends on what else is installed.
    "accept-encoding": "gzip",
    "user-agent": f"flyteagents/{version('flyteagents')}",
}
# Without the header, whose value may be the credential.
_BAD_HEADER = "a header is not valid HTTP; is there a line break in a credential?"
_SECRET_HEADER = re.compile("auth|token|key|secret|cookie|passw|credential|sign", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# RFC 9110, 5.5: what is visible, and blanks within.
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?|")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Written:
    """A request that is ready to be sent. `to` is its host with its port, where that is not the
    scheme's own; an IPv6 host stands in brackets there, and without them in `host`."""

    url: yarl.URL
    headers: dict[str, str]
    body: bytes
    host: str
    to: str

    @property
    def attributes(self) -> dict[str, str | int]:
        """Those of its span, with no query and no credentials."""
        return {
            "url.full": f"{self.url.scheme}://{self.to}{self.url.raw_path}",
            "server.address": self.host,
            "server.port": self.url.port or _PORTS[self.url.scheme],
        }


def written(endpoint: Endpoint, path: str, sent: Sent) -> Written:
    """Raises Forbidden for what is no good URL, Unauthenticated for a header that HTTP does not
    take, InvalidTask for a body that JSON does not take."""
    url = _url(endpoint.url, path, sent.get("params", {}))
    body, content_type = _body(sent)
    headers = _headers(endpoint, content_type, sent.get("headers", {}))
    if url.user is not None or url.password is not None:
        pair = f"{url.user or ''}:{url.password or ''}"
        remember(url.password or "")
        headers.setdefault("authorization", f"Basic {b64encode(pair.encode()).decode()}")
        # aiohttp refuses a URL's credentials beside an Authorization header (aiohttp/client.py).
        url = url.with_user(None)
    host = url.host or ""
    to = url.host_port_subcomponent or host
    return Written(url, headers, body, host, to)


def _url(start: str, path: str, given: Mapping[str, object]) -> yarl.URL:
    # Paths are made of ids that came over the wire.
    if any(part in (".", "..") for part in unquote(path.partition("?")[0]).split("/")):
        raise Forbidden("no path with '..' in it is asked for")
    if not path.startswith(("http://", "https://")):
        path = f"{start.rstrip('/')}/{path.lstrip('/')}" if path else start
    with contextlib.suppress(ValueError):
        url = yarl.URL(path)
        if url.scheme in _PORTS and url.host and " " not in url.host:
            params = {name: _param(value) for name, value in given.items() if value is not None}
            return url.update_query(params) if params else url
    raise Forbidden("the vendor's address, or the path, makes no http or https URL")


def _param(value: object) -> str | list[str]:
    """As vendors spell it; yarl takes no booleans."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [str(_param(each)) for each in value]
    return str(value)


def _headers(
    endpoint: Endpoint, content_type: str | None, given: Mapping[str, str]
) -> dict[str, str]:
    opening = dict(endpoint.headers)
    if endpoint.bearer is not None:
        opening["authorization"] = f"Bearer {endpoint.bearer}"
    for name, value in opening.items():
        if _SECRET_HEADER.search(name):
            # Masked wherever it turns up: vendors quote credentials in errors.
            remember(value.partition(" ")[2] or value)
    body = {} if content_type is None else {"content-type": content_type}
    headers = _HEADERS.copy()
    for part in (body, opening, given):
        for name, value in part.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                raise Unauthenticated(_BAD_HEADER)
            # In one spelling, so that a later part replaces an earlier one's header.
            headers[name.lower()] = value
    return headers


def _body(sent: Sent) -> tuple[bytes, str | None]:
    """The body and its content type, as far as the agent leaves that to us."""
    if sent.get("json") is not None:
        try:
            text = json.dumps(
                sent["json"], ensure_ascii=False, separators=(",", ":"), allow_nan=False
            )
            # UnicodeEncodeError is a ValueError: half of a character ends below as well.
            return text.encode(), "application/json"
        except ValueError:
            raise InvalidTask("a value of the request does not fit JSON, as NaN does not") from None
    if "form" in sent:
        return urlencode(sent["form"]).encode(), "application/x-www-form-urlencoded"
    content = sent.get("content", b"")
    return (content.encode() if isinstance(content, str) else content), None
