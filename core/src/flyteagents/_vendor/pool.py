"""Requests on the wire. httpx2 is behind this module and in none of its signatures.

httpx2 takes more than 0.1 s to import, so the first request imports this module: an agent without
HTTP never pays that. What httpx2 raises and logs may hold URLs with queries and headers with
credentials, so nothing of it leaves this module but why it could not connect.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TypedDict
from urllib.parse import unquote

import httpx2
from importlib_metadata import version
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flyteagents._call import Endpoint, Reply
from flyteagents._errors import AgentError, Forbidden, InvalidTask, Unauthenticated, Unavailable
from flyteagents._redact import remember
from flyteagents._vendor.budget import OUT_OF_TIME, Budget, within

CONNECT_LIMIT = 3.0
ROOM_LIMIT = 10.0
"""Seconds to wait while all connections are in use."""
IDLE_LIMIT = 55.0
"""Load balancers hang up after a minute; the next poll may come after half of one."""
REPLY_LIMIT = 64 << 20
SHARE = 4
"""Connections that one httpx2 client keeps: not all its requests are to the same host."""
_HEADERS = {
    "accept": "application/json",
    "accept-encoding": "gzip, deflate",
    "user-agent": f"flyteagents/{version('flyteagents')}",
}
_BAD_HEADER = "a header is not valid HTTP; is there a line break in a credential?"
_SECRET_HEADER = re.compile("auth|token|key|secret|cookie|passw|credential|sign", re.IGNORECASE)


class Sent(TypedDict, total=False):
    """What a request carries: at most one of json, content and form. A param of None is left
    out; headers win over the endpoint's."""

    json: object
    content: bytes | str
    form: Mapping[str, str]
    params: Mapping[str, str | int | float | bool | Sequence[str] | None]
    headers: Mapping[str, str]


class Pool:
    """Connections that are kept open. They belong to one event loop.

    An httpx2 client looks at every idle connection, with system calls, whenever a request begins
    or ends: with hundreds of them that takes longer than the rest of a poll. So each request has
    a client to itself, and the one used last goes first."""

    def __init__(self, connections: int) -> None:
        # At INFO httpx2 logs every URL with its query, at DEBUG httpcore2 headers.
        for name in ("httpx2", "httpcore2"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._new = functools.partial(
            httpx2.AsyncClient,
            verify=httpx2.create_ssl_context(),
            limits=httpx2.Limits(max_connections=SHARE, keepalive_expiry=IDLE_LIMIT),
            timeout=httpx2.Timeout(None, connect=CONNECT_LIMIT),
            # Tenants share the pool: a session cookie of one must not be sent for another.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )
        self.room = asyncio.Semaphore(connections)
        self._idle: deque[tuple[httpx2.AsyncClient, float]] = deque()  # since when; latest last
        self.idle_limit = IDLE_LIMIT
        self.trip = functools.partial(Trip, self)

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[httpx2.AsyncClient]:
        client = self._idle.pop()[0] if self._idle else self._new()
        try:
            yield client
        finally:
            self._idle.append((client, time.monotonic()))
            oldest, since = self._idle[0]
            if since + self.idle_limit <= time.monotonic():
                # What a peak needed. One at a time: to close hundreds would take a while.
                del self._idle[0]
                await oldest.aclose()

    async def aclose(self) -> None:
        self.idle_limit = 0.0  # what is still in use is not kept either
        with contextlib.suppress(RuntimeError):  # its loop may have ended before
            while self._idle:
                await self._idle.pop()[0].aclose()


class Trip:
    """One request, and how far it came, which says whether there may be another.

    to: host and port. where: its attributes in a span, with no query and no credentials.
    came: "unsent" until it may have reached the vendor, then "sent"; "stale" when it met a pooled
    connection that the vendor had closed, "oversized" when its reply was too long.
    retry_after: the seconds that the vendor asked for.
    """

    def __init__(self, pool: Pool, method: str, path: str, sent: Sent) -> None:
        self._pool, self.method, self._path, self._sent = pool, method, path, sent
        self._kept, self.came = True, "unsent"
        self.retry_after: float | None = None

    def aim(self, endpoint: Endpoint) -> None:
        """Raises Forbidden for what is no good URL."""
        sent = self._sent
        url = _url(endpoint.url, self._path, sent)
        self.host, self.to = url.host, url.netloc.decode()
        self.where: dict[str, str | int] = {
            "url.full": f"{url.scheme}://{self.to}{url.raw_path.partition(b'?')[0].decode()}",
            "server.address": url.host,
            "server.port": url.port or (443 if url.scheme == "https" else 80),
        }
        headers = _headers(endpoint, sent)
        try:
            self._request = httpx2.Request(
                self.method, url, headers=headers, extensions={"trace": self._event},
                content=sent.get("content"), data=sent.get("form"), json=sent.get("json"),
            )  # fmt: skip
        except ValueError:
            raise InvalidTask("a value of the request does not fit JSON, as NaN does not") from None

    async def exchange(self, limit: float, budget: Budget) -> Reply:
        """The request and its whole reply, in `limit` seconds from when there is room for it.
        Raises Unavailable without."""
        TraceContextTextMapPropagator().inject(self._request.headers)
        try:
            await within(min(limit, ROOM_LIMIT), self._pool.room.acquire())
        except asyncio.TimeoutError:
            raise Unavailable(f"all connections to {self.to} are in use") from None
        try:
            if budget.closed:  # the caller has its answer by now
                raise Unavailable(OUT_OF_TIME)
            return await within(limit, self._converse())
        except (httpx2.HTTPError, asyncio.TimeoutError) as error:
            raise self._meaning(error, limit) from None
        finally:
            self._pool.room.release()

    async def _converse(self) -> Reply:
        async with self._pool.client() as client:
            sending = client.send(self._request, stream=True)
            async with contextlib.aclosing(await sending) as response:
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > REPLY_LIMIT:
                        self.came = "oversized"
                        raise Unavailable(f"the reply of {self.to} is over {REPLY_LIMIT >> 20} MiB")
        return Reply(response.status_code, dict(response.headers), bytes(body))

    async def _event(self, name: str, _: object) -> None:
        """For httpcore's `trace` extension."""
        if name.endswith("send_request_headers.started"):
            self.came = "sent"
        elif name.endswith(("connect_tcp.started", "receive_response_headers.complete")):
            self._kept = False

    def _meaning(self, error: Exception, limit: float) -> AgentError:
        if isinstance(error, httpx2.LocalProtocolError):
            return Unauthenticated(_BAD_HEADER)  # the library's own words quote it
        if self.came == "unsent":
            return Unavailable(f"could not connect to {self.to}: {str(error) or 'no answer'}")
        if isinstance(error, asyncio.TimeoutError):
            return Unavailable(f"no answer from {self.to} within {limit:g} s")
        # Not for an answer that is no HTTP, which is a RemoteProtocolError too.
        if self._kept and (isinstance(error, httpx2.NetworkError) or "disconnected" in str(error)):
            self.came = "stale"
        return Unavailable(f"the connection to {self.to} broke, or what it answered is not HTTP")


def _url(start: str, path: str, sent: Sent) -> httpx2.URL:
    # Paths are made of ids that came over the wire.
    if any(part in (".", "..") for part in unquote(path.partition("?")[0]).split("/")):
        raise Forbidden("no path with '..' in it is asked for")
    if not path.startswith(("http://", "https://")):
        path = f"{start.rstrip('/')}/{path.lstrip('/')}" if path else start
    given = sent.get("params", {})
    params = {name: value for name, value in given.items() if value is not None}
    with contextlib.suppress(httpx2.InvalidURL):
        url = httpx2.URL(path)
        if url.scheme in ("http", "https") and url.host:
            return url.copy_merge_params(params) if params else url
    raise Forbidden("the vendor's address, or the path, makes no http or https URL")


def _headers(endpoint: Endpoint, sent: Sent) -> dict[str, str]:
    opening = dict(endpoint.headers)
    if endpoint.bearer is not None:
        opening["authorization"] = f"Bearer {endpoint.bearer}"
    for name, value in opening.items():
        if _SECRET_HEADER.search(name):
            # Masked wherever it turns up: vendors quote credentials in errors.
            remember(value.partition(" ")[2] or value)
    parts = (_HEADERS, opening, sent.get("headers", {}))
    headers = {name.lower(): value for part in parts for name, value in part.items()}
    if not all(map(str.isascii, headers.values())):
        raise Unauthenticated(_BAD_HEADER)
    return headers
