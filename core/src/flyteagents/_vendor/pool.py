"""Requests on the wire. aiohttp is behind this module and in none of its signatures.

aiohttp takes a third of a second to import, so this module is imported in a thread, when the server
has started or by the first request: an agent without HTTP never pays that. What aiohttp raises may
hold URLs with queries and headers with credentials, so nothing of it leaves this module but why it
could not connect.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import ssl
import zlib
from contextvars import ContextVar
from typing import Any

import aiohttp
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flyteagents._errors import AgentError, Unavailable
from flyteagents._http import Endpoint, Reply, Sent
from flyteagents._vendor.budget import OUT_OF_TIME, Budget, within
from flyteagents._vendor.proxies import proxy_for
from flyteagents._vendor.written import Written, written

CONNECT_LIMIT = 3.0
"""Seconds for TCP and TLS to one address; a new connection, with its name and its proxy, may take
twice that."""
ROOM_LIMIT = 10.0
"""Seconds to wait while all connections are in use."""
IDLE_LIMIT = 55.0
"""Load balancers hang up after a minute; the next poll may come after half of one."""
REPLY_LIMIT = 64 << 20
HEADER_LIMIT = 64 << 10
_LARGE = 1 << 20
"""Bytes of a body that aiohttp wants as a file, to write it in pieces."""
_GZIP = zlib.MAX_WBITS | 16
_W3C = TraceContextTextMapPropagator()
_under_way: ContextVar[Trip] = ContextVar("trip")


class Pool:
    """Connections that are kept open. They belong to one event loop."""

    def __init__(self, connections: int) -> None:
        self.room = asyncio.Semaphore(connections)
        self.idle_limit = IDLE_LIMIT
        # Read here, in the thread that makes the pool: it takes a tenth of a second.
        self._certificates = ssl.create_default_context()
        # Opened by the first request: aiohttp wants a running loop, and this thread has none.
        self._session: aiohttp.ClientSession | None = None
        self._in_use = 0
        self._closing = False
        self.proxy = functools.lru_cache(1000)(proxy_for)
        self.trip = functools.partial(Trip, self)

    def enter(self) -> aiohttp.ClientSession:
        """The session, for one request; `leave` ends it."""
        self._in_use += 1
        if self._session is None:
            self._session = self._open()
        return self._session

    async def leave(self) -> None:
        self._in_use -= 1
        if self._closing:
            await self.aclose()

    async def aclose(self) -> None:
        """Close what is idle now; the last request that is still on its way closes the rest."""
        self._closing = True
        if self._in_use == 0 and self._session is not None:
            session, self._session = self._session, None
            with contextlib.suppress(RuntimeError):  # its loop may have ended before
                await session.close()

    def _open(self) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=_Connector(
                limit=0,  # `room` is the limit, and says so when it is reached
                ssl=self._certificates,
                keepalive_timeout=self.idle_limit,
                resolver=aiohttp.ThreadedResolver(),  # reads /etc/hosts, whatever is installed
            ),
            # No total: `exchange` limits the whole, with each call's own limit.
            timeout=aiohttp.ClientTimeout(connect=2 * CONNECT_LIMIT, sock_connect=CONNECT_LIMIT),
            # Tenants share the pool: a session cookie of one must not be sent for another.
            cookie_jar=aiohttp.DummyCookieJar(),
            # aiohttp would call a body without a type application/octet-stream.
            skip_auto_headers=("content-type",),
            # It takes a gzip that is cut off for a whole one (aiohttp/http_parser.py,
            # `DeflateBuffer.feed_eof`).
            auto_decompress=False,
            max_line_size=HEADER_LIMIT,
            max_field_size=HEADER_LIMIT,
        )
        # It would send a GET, a PUT or a DELETE once more when a kept connection breaks, and not
        # tell. We count and limit what is sent. There is no public switch
        # (aiohttp/client.py, `retry_persistent_connection`).
        session._retry_connection = False  # noqa: SLF001
        return session


class _Connector(aiohttp.TCPConnector):
    """Tells the trip under way how far it came. aiohttp's hooks would say the same, and take a
    tenth of a request's time."""

    async def connect(self, *given: Any, **named: Any) -> Any:
        connection = await super().connect(*given, **named)
        # From here on bytes may go to the vendor; a proxy's CONNECT was before.
        _under_way.get().came = "sent"
        return connection

    async def _create_connection(self, *given: Any, **named: Any) -> Any:
        _under_way.get().kept = False
        return await super()._create_connection(*given, **named)

    def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
        """The connection that was used last is taken next, so that what only a peak needed grows
        old and is closed. aiohttp takes the one that was idle longest: all of them stay."""
        super()._release(key, protocol, should_close=should_close)
        idle = self._conns.get(key)
        # aiohttp may have closed it instead, and takes the next one from the left.
        if idle and idle[-1][0] is protocol:
            idle.rotate(1)


class Trip:
    """One request, and how far it came, which says whether there may be another.

    to: host and port. where: its attributes in a span.
    came: "unsent" until it may have reached the vendor, then "sent"; "stale" when it met a pooled
    connection that the vendor had closed, "oversized" when its reply was too long.
    kept: whether it goes over a connection from before, and no answer has begun.
    retry_after: the seconds that the vendor asked for.
    """

    def __init__(self, pool: Pool, method: str, path: str, sent: Sent) -> None:
        self._pool = pool
        self.method = method
        self._path = path
        self._sent = sent
        self.kept = True
        self.came = "unsent"
        self.retry_after: float | None = None

    def aim(self, endpoint: Endpoint) -> None:
        """Raises Forbidden for what is no good URL."""
        self._request: Written = written(endpoint, self._path, self._sent)
        self.host = self._request.host
        self.to = self._request.to
        self.where = self._request.attributes

    async def exchange(self, limit: float, budget: Budget) -> Reply:
        """The request and its whole reply, in `limit` seconds from when there is room for it.
        Raises Unavailable without."""
        _W3C.inject(self._request.headers)
        url = self._request.url
        self._proxy = self._pool.proxy(url.scheme, self.host.rstrip("."), url.port or 0)
        try:
            await within(min(limit, ROOM_LIMIT), self._pool.room.acquire())
        except asyncio.TimeoutError:
            raise Unavailable(f"all connections to {self.to} are in use") from None
        try:
            if budget.closed:  # the caller has its answer by now
                raise Unavailable(OUT_OF_TIME)
            session = self._pool.enter()
            try:
                return await within(limit, self._converse(session))
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError, zlib.error) as error:
                raise self._meaning(error, limit) from None
            finally:
                await self._pool.leave()
        finally:
            self._pool.room.release()
            # A connection keeps the context that it was opened in, and so this trip, for its life.
            del self._request, self._sent

    async def _converse(self, session: aiohttp.ClientSession) -> Reply:
        request = self._request
        body: bytes | io.BytesIO = request.body
        if len(request.body) > _LARGE:
            body = io.BytesIO(request.body)
        # aiohttp hands nothing of ours to its connector, which runs in this task's context.
        _under_way.set(self)
        async with session.request(
            self.method,
            request.url,
            headers=request.headers,
            data=body or None,
            # Another host would not be checked, and could get credentials.
            allow_redirects=False,
            proxy=self._proxy and self._proxy.url,
        ) as response:
            self.kept = False
            reply = bytearray()
            gzipped = "gzip" in response.headers.get("content-encoding", "")
            unpacked = _Unpacked(reply) if gzipped else None
            async for chunk in response.content.iter_any():
                if unpacked is None:
                    reply += chunk
                else:
                    unpacked.add(chunk)
                # Counted as it comes.
                if len(reply) > REPLY_LIMIT:
                    self.came = "oversized"
                    raise Unavailable(f"the reply of {self.to} is over {REPLY_LIMIT >> 20} MiB")
        if unpacked is not None and unpacked.cut_off:
            raise aiohttp.ClientPayloadError
        # One that comes more than once may be joined by commas (RFC 9110, 5.3).
        headers: dict[str, str] = {}
        for name, value in response.headers.items():
            before = headers.get(name.lower())
            headers[name.lower()] = value if before is None else f"{before}, {value}"
        return Reply(response.status, headers, bytes(reply))

    def _meaning(self, error: Exception, limit: float) -> AgentError:
        late = isinstance(error, asyncio.TimeoutError)
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return Unavailable(
                f"could not connect to {self.to}: the proxy {self._proxy} answered {error.status}"
            )
        if self.came == "unsent":
            # The library's own text has its settings in it, and the address once more.
            why = getattr(error, "os_error", None) or getattr(error, "certificate_error", error)
            words = "no answer" if late else str(why) or "no answer"
            through = f" through the proxy {self._proxy}" if self._proxy else ""
            return Unavailable(f"could not connect to {self.to}{through}: {words}")
        if late:
            return Unavailable(f"no answer from {self.to} within {limit:g} s")
        # Not for an answer that is no HTTP.
        if self.kept and isinstance(error, aiohttp.ServerDisconnectedError | OSError):
            self.came = "stale"
        return Unavailable(f"the connection to {self.to} broke, or what it answered is not HTTP")


class _Unpacked:
    """A gzip body as it comes, unpacked into `reply`. It may have several members, one behind the
    other (RFC 1952, 2.2)."""

    def __init__(self, reply: bytearray) -> None:
        self._reply = reply
        self._member = zlib.decompressobj(_GZIP)
        self.cut_off = False

    def add(self, chunk: bytes) -> None:
        """Raises zlib.error for what is no member."""
        # A short gzip may hold more than memory does.
        while chunk and len(self._reply) <= REPLY_LIMIT:
            if self._member.eof:
                self._member = zlib.decompressobj(_GZIP)
            self._reply += self._member.decompress(chunk, REPLY_LIMIT + 1 - len(self._reply))
            chunk = self._member.unused_data
            self.cut_off = not self._member.eof
