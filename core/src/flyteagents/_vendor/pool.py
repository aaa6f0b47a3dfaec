"""Requests on the wire. httpx2 is behind this module and in none of its signatures.

What httpx2 raises and logs may hold URLs with queries and headers with credentials, so nothing
of it leaves this module.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, TypedDict
from urllib.parse import unquote

from importlib_metadata import version
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flyteagents._call import Endpoint, Reply
from flyteagents._errors import AgentError, Forbidden, InvalidTask, Unauthenticated, Unavailable
from flyteagents._vendor.replies import retry_after

if TYPE_CHECKING:
    import httpx2  # takes more than 0.1 s to import: an agent without HTTP never pays that

CONNECT_LIMIT = 3.0
WAIT_LIMIT = 10.0
"""Seconds to wait for one of the pool's connections to be free."""
IDLE_LIMIT = 55.0
"""Load balancers hang up after a minute; the next poll may come after half of one."""
REPLY_LIMIT = 64 << 20
_USER_AGENT = f"flyteagents/{version('flyteagents')}"


class Sent(TypedDict, total=False):
    """What a request carries: at most one of json, content and form. A param of None is left
    out; headers win over the endpoint's."""

    json: object
    content: bytes | str
    form: Mapping[str, str]
    params: Mapping[str, str | int | float | bool | Sequence[str] | None]
    headers: Mapping[str, str]


@dataclass
class Trip:
    """How far a request came, which says whether there may be another."""

    connected: bool = False
    sent: bool = False
    broken: bool = False
    oversized: bool = False
    status: int | None = None
    retry_after: float | None = None

    @property
    def stale(self) -> bool:
        """A pooled connection was used that the vendor had closed."""
        return self.broken and self.sent and not self.connected and self.status is None

    async def event(self, name: str, _: object) -> None:
        """For httpcore's `trace` extension."""
        if name.endswith("connect_tcp.started"):
            self.connected = True
        elif name.endswith("send_request_headers.started"):
            self.sent = True


class Target:
    """Where a request goes. `shown` has no query and no credentials, `to` is host and port."""

    def __init__(self, url: httpx2.URL) -> None:
        self.url, self.host, self.to = url, url.host, url.netloc.decode()
        self.port = url.port or (443 if url.scheme == "https" else 80)
        # Put together here: httpx2 would parse it anew for each request.
        self.shown = f"{url.scheme}://{self.to}{url.raw_path.partition(b'?')[0].decode()}"


class Pool:
    """Connections that are kept open. They belong to one event loop.

    httpx2 looks at every idle connection, with system calls, whenever a request begins or ends:
    with hundreds of them that takes longer than the rest of a poll. So each of its clients has
    but a few, and the first one with room is taken."""

    SHARE = 4

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._opening: asyncio.Future[ssl.SSLContext] | None = None
        self._busy: dict[httpx2.AsyncClient, int] = {}
        self._needed = 0.0  # when the last of them was

    async def target(self, start: str, path: str, sent: Sent) -> Target:
        """Join a path, or take an absolute URL. Raises Forbidden for what is no good URL."""
        await self._open()  # brings httpx2, whose idea of a URL is the one that counts
        return Target(_url(start, path, sent))

    async def exchange(
        self, method: str, target: Target, endpoint: Endpoint, sent: Sent, trip: Trip, limit: float
    ) -> Reply:
        """One request and its whole reply, in `limit` seconds. Raises Unavailable without."""
        import httpx2

        client = self._free(await self._open())
        request = _request(client, method, target, endpoint, sent, trip, limit)
        self._busy[client] += 1
        try:
            return await asyncio.wait_for(_converse(client, request, target.to, trip), limit)
        except (httpx2.HTTPError, asyncio.TimeoutError) as error:
            raise _meaning(error, target.to, trip, limit) from None
        finally:
            self._busy[client] -= 1
            await self._shrink(client)

    async def aclose(self) -> None:
        with contextlib.suppress(RuntimeError):  # its loop may have ended before
            for client in list(self._busy):
                await client.aclose()

    def _free(self, trust: ssl.SSLContext) -> httpx2.AsyncClient:
        """The first client with room, or a new one; if there may be none, the least busy one."""
        for client, busy in self._busy.items():
            if busy < self.SHARE:
                return client
        if self.SHARE * len(self._busy) < self._connections:
            self._busy[_client(self.SHARE, trust)] = 0
        return min(self._busy, key=self._busy.__getitem__)

    async def _shrink(self, used: httpx2.AsyncClient) -> None:
        """Let go of what a peak needed: a client looks at its connections only when it is used."""
        *_, last = self._busy
        if used is last:
            self._needed = time.monotonic()
        elif not self._busy[last] and time.monotonic() > self._needed + IDLE_LIMIT:
            self._needed = time.monotonic()
            del self._busy[last]
            await last.aclose()

    async def _open(self) -> ssl.SSLContext:
        if self._opening is None or (self._opening.done() and self._opening.exception()):
            # In a thread: the import and the system's certificates would block the loop.
            self._opening = asyncio.ensure_future(asyncio.to_thread(_trust))
        return await asyncio.shield(self._opening)


def _trust() -> ssl.SSLContext:
    import httpx2

    # At INFO httpx2 logs every URL with its query, at DEBUG httpcore2 headers.
    for name in ("httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return httpx2.create_ssl_context()


def _client(connections: int, trust: ssl.SSLContext) -> httpx2.AsyncClient:
    import httpx2

    return httpx2.AsyncClient(
        verify=trust,
        limits=httpx2.Limits(max_connections=connections, keepalive_expiry=IDLE_LIMIT),
        # Tenants share the pool: a session cookie of one must not be sent for another.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        headers={"accept": "application/json", "user-agent": _USER_AGENT},
    )


def _url(start: str, path: str, sent: Sent) -> httpx2.URL:
    import httpx2

    # Paths are made of ids that came over the wire.
    if any(part in (".", "..") for part in unquote(path.partition("?")[0]).split("/")):
        raise Forbidden("no path with '..' in it is asked for")
    if not path.startswith(("http://", "https://")):
        path = f"{start.rstrip('/')}/{path.lstrip('/')}" if path else start
    try:
        url = httpx2.URL(path)
    except httpx2.InvalidURL:
        raise Forbidden("the vendor's address, or the path, is not a valid URL") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise Forbidden("the vendor's address is not an http or https URL")
    params = {key: value for key, value in sent.get("params", {}).items() if value is not None}
    return url.copy_merge_params(params) if params else url


def _request(
    client: httpx2.AsyncClient, method: str, target: Target, endpoint: Endpoint, sent: Sent,
    trip: Trip, limit: float,
) -> httpx2.Request:  # fmt: skip
    import httpx2

    try:
        headers = httpx2.Headers(dict(endpoint.headers))
        if endpoint.bearer is not None:
            headers.update({"authorization": f"Bearer {endpoint.bearer}"})
        headers.update(sent.get("headers"))
    except UnicodeEncodeError:
        raise _bad_header() from None
    TraceContextTextMapPropagator().inject(headers)
    body: dict[str, Any] = {"json": sent.get("json"), "data": sent.get("form")}
    try:
        return client.build_request(
            method, target.url, headers=headers, content=sent.get("content"), **body,
            timeout=httpx2.Timeout(limit, connect=CONNECT_LIMIT, pool=min(limit, WAIT_LIMIT)),
            extensions={"trace": trip.event},
        )  # fmt: skip
    except ValueError:
        raise InvalidTask("a value of the request does not fit JSON, as NaN does not") from None


async def _converse(
    client: httpx2.AsyncClient, request: httpx2.Request, to: str, trip: Trip
) -> Reply:
    response = await client.send(request, stream=True)
    try:
        trip.status = response.status_code
        trip.retry_after = retry_after(response.headers)
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > REPLY_LIMIT:
                trip.oversized = True
                raise Unavailable(f"the reply of {to} is over {REPLY_LIMIT >> 20} MiB")
    finally:
        await response.aclose()
    return Reply(response.status_code, dict(response.headers), bytes(body))


def _meaning(error: Exception, to: str, trip: Trip, limit: float) -> AgentError:
    import httpx2

    if isinstance(error, httpx2.PoolTimeout):
        return Unavailable(f"all connections to {to} are in use")
    if isinstance(error, (httpx2.TimeoutException, asyncio.TimeoutError)):
        if trip.sent:
            return Unavailable(f"no answer from {to} within {limit:g} s")
        return Unavailable(f"could not connect to {to} within {min(limit, CONNECT_LIMIT):g} s")
    if isinstance(error, (httpx2.ConnectError, httpx2.ProxyError)):
        return Unavailable(f"could not connect to {to}{_distrust(error)}")
    if isinstance(error, httpx2.LocalProtocolError):
        return _bad_header()
    # Not for an answer that is no HTTP, which is a RemoteProtocolError too.
    trip.broken = isinstance(error, httpx2.NetworkError) or "disconnected" in str(error)
    return Unavailable(f"the connection to {to} broke, or what it answered is not HTTP")


def _distrust(error: BaseException | None) -> str:
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return "" if error is None else f": its certificate is not trusted ({error.verify_message})"


def _bad_header() -> Unauthenticated:
    # The library's own error quotes the header.
    return Unauthenticated("a header is not valid HTTP; is there a line break in a credential?")
