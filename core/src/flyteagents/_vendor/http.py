"""A vendor's API over HTTP: pooled, limited in time, traced, and with our errors.

What httpx2 raises and logs may hold URLs with queries and headers with credentials, so nothing
of it leaves this module.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, overload
from urllib.parse import unquote

from importlib_metadata import version
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pydantic import BaseModel

from flyteagents._call import Endpoint, Reply
from flyteagents._errors import (
    AgentError,
    Forbidden,
    InvalidTask,
    Unauthenticated,
    Unavailable,
    VendorError,
)
from flyteagents._telemetry.redact import remember
from flyteagents._vendor.budget import Budget
from flyteagents._vendor.hosts import Hosts
from flyteagents._vendor.replies import failure, fit, retry_after

if TYPE_CHECKING:
    import httpx2  # takes about 0.1 s to import, so only when the first request is sent
    from typing_extensions import Unpack

M = TypeVar("M", bound=BaseModel)
CONNECT_LIMIT = 3.0
POOL_LIMIT = 10.0
IDLE_LIMIT = 55.0  # load balancers hang up after 60 s; the next poll may come after 30
REPLY_LIMIT = 64 * 2**20
_IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")
_tracer = trace.get_tracer("flyteagents.http")


class Sent(TypedDict, total=False):
    """What a request carries. At most one of json, content and form; a param of None is left
    out; headers win over the endpoint's."""

    json: object
    content: bytes | str
    form: Mapping[str, str]
    params: Mapping[str, str | int | float | bool | Sequence[str] | None]
    headers: Mapping[str, str]


class VendorClient:
    """An agent's connections to its vendor; they belong to one event loop.

    hosts: patterns of the hosts that get credentials. observe: told the status (None without a
    reply) and the seconds of each request on the wire.
    """

    def __init__(
        self, agent: str, hosts: Sequence[str], *, max_connections: int = 64,
        observe: Callable[[int | None, float], None] | None = None,
    ) -> None:  # fmt: skip
        self.agent, self.hosts, self.observe = agent, Hosts(hosts), observe
        self._max_connections = max_connections
        self._pool: asyncio.Future[httpx2.AsyncClient] | None = None

    def bind(
        self,
        endpoint: Callable[[bool], Awaitable[Endpoint]],
        budget: Budget,
        explain: Callable[[Reply], AgentError | None],
    ) -> Http:
        """The API for one call of the kernel's to the agent."""
        return Http(self, endpoint, budget, explain)

    async def pool(self) -> httpx2.AsyncClient:
        if self._pool is None or (self._pool.done() and self._pool.exception()):
            # In a thread: the import and reading the system's certificates would block the loop.
            self._pool = asyncio.ensure_future(asyncio.to_thread(_open, self._max_connections))
        return await asyncio.shield(self._pool)

    async def aclose(self) -> None:
        """Close the connections. They may belong to a loop that has ended."""
        if self._pool is not None:
            with contextlib.suppress(RuntimeError):
                await (await self._pool).aclose()


@dataclass
class _Trip:
    """How far one attempt came, which says whether there may be another."""

    resent: int
    to: str = "the vendor"
    connected: bool = False
    sent: bool = False
    broken: bool = False
    final: bool = False
    status: int | None = None
    wait: float | None = None

    @property
    def stale(self) -> bool:
        """A pooled connection was used that the vendor had closed."""
        return self.broken and self.sent and not self.connected and self.status is None

    async def trace(self, event: str, _: object) -> None:
        """For httpcore's `trace` extension."""
        if event.endswith("connect_tcp.started"):
            self.connected = True
        elif event.endswith("send_request_headers.started"):
            self.sent = True


class Http:
    """Requests to the vendor within one call.

    ```python
    state = await call.http.get(f"/jobs/{job.id}", into=AcmeState)      # a pydantic model
    reply = await call.http.put("/jobs/x", json={...}, accept=[409])    # a Reply, also for 409
    ```
    Paths are joined to the endpoint's URL; absolute URLs must be of an allowed host. With `into`
    the reply's JSON is checked and returned as that model, without it the `Reply` is. Statuses
    other than 2xx and those of `accept` raise what `explain` says, or the error that fits.
    Redirects are not followed. Requests are repeated within the call's time as far as that is
    safe; after a 401, once with a fresh endpoint.
    """

    def __init__(
        self,
        client: VendorClient,
        endpoint: Callable[[bool], Awaitable[Endpoint]],
        budget: Budget,
        explain: Callable[[Reply], AgentError | None],
    ) -> None:
        self._client, self._endpoint = client, endpoint
        self._budget, self._explain = budget, explain
        self.get, self.post = Verb(self, "GET"), Verb(self, "POST")
        self.put, self.patch = Verb(self, "PUT"), Verb(self, "PATCH")
        self.delete = Verb(self, "DELETE")

    def request(self, method: str) -> Verb:
        """Any other method: `await call.http.request("HEAD")("/jobs")`."""
        return Verb(self, method)

    async def send(self, method: str, path: str, accept: Collection[int], sent: Sent) -> Reply:
        """Send until there is an answer, an error that stays, or no time left."""
        budget, fresh, tries = self._budget, False, 0
        last: AgentError = Unavailable("there was no time left to ask the vendor")
        while not budget.closed and time.monotonic() < budget.until:
            trip = _Trip(resent=tries)
            try:
                return await self._attempt(trip, method, path, accept, sent, fresh)
            except Unauthenticated as error:
                if fresh or trip.status is None:
                    raise
                fresh, last = True, error
            except VendorError as error:
                pause = self._pause(method, trip, error)
                if pause is None:
                    raise
                last = error
                await asyncio.sleep(pause)
            tries += 1
        raise last

    def _pause(self, method: str, trip: _Trip, error: VendorError) -> float | None:
        """Seconds to wait before the next attempt; None when there may be none."""
        budget, safe = self._budget, method in _IDEMPOTENT
        if trip.stale and safe and trip.resent == 0:
            return 0.0
        unsent = not trip.sent or trip.status in (429, 503)
        if not budget.retries or trip.final or not (safe or unsent or budget.repeat == "any"):
            return None
        asked = getattr(error, "retry_after", None) or trip.wait or 0.0
        jitter = random.uniform(0, min(0.1 * 2**trip.resent, 2.0))  # noqa: S311 # not a secret
        seconds: float = max(asked, jitter)
        return seconds if time.monotonic() + seconds < budget.until else None

    async def _attempt(
        self, trip: _Trip, method: str, path: str, accept: Collection[int], sent: Sent, fresh: bool
    ) -> Reply:
        limit, client = self._budget.limit, self._client
        try:
            endpoint = await asyncio.wait_for(self._endpoint(fresh), limit)
        except asyncio.TimeoutError:
            raise Unavailable(f"no credentials for the vendor within {limit:g} s") from None
        pool = await client.pool()
        url = _url(endpoint.url, path, sent)
        client.hosts.check(url.host)
        trip.to = url.netloc.decode()
        began = time.monotonic()
        with _tracer.start_as_current_span(
            method, kind=trace.SpanKind.CLIENT, record_exception=False,
            set_status_on_exception=False, attributes=_attributes(method, url, trip),
        ) as span:  # fmt: skip
            why = ""
            try:
                request = _request(pool, method, url, endpoint, sent, limit, trip)
                reply = await asyncio.wait_for(_exchange(pool, request, trip), limit)
                if not (200 <= reply.status < 300 or reply.status in accept):
                    why = str(reply.status)
                    error = self._explain(reply) or failure(reply, trip.to)
                    raise _without(endpoint, error)
                return reply
            except AgentError as error:
                why = why or type(error).__name__
                raise
            except Exception as error:
                why = type(error).__name__
                raise _meaning(error, trip, limit) from None
            finally:
                if client.observe is not None:
                    client.observe(trip.status, time.monotonic() - began)
                if trip.status is not None:
                    span.set_attribute("http.response.status_code", trip.status)
                if why:
                    span.set_attribute("error.type", why)
                    span.set_status(trace.StatusCode.ERROR)


class Verb:
    """One HTTP method of the vendor's API; see `Http`."""

    def __init__(self, http: Http, method: str) -> None:
        self._http, self._method = http, method

    @overload
    async def __call__(self, path: str, *, into: type[M], **sent: Unpack[Sent]) -> M: ...
    @overload
    async def __call__(
        self, path: str, *, accept: Collection[int] = (), **sent: Unpack[Sent]
    ) -> Reply: ...
    async def __call__(
        self, path: str, *, into: type[M] | None = None, accept: Collection[int] = (),
        **sent: Unpack[Sent],
    ) -> M | Reply:  # fmt: skip
        reply = await self._http.send(self._method, path, accept, sent)
        return reply if into is None else fit(into, reply)


def _open(connections: int) -> httpx2.AsyncClient:
    import httpx2

    # At INFO httpx2 logs every URL with its query, at DEBUG httpcore2 the headers.
    for name in ("httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return httpx2.AsyncClient(
        limits=httpx2.Limits(
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=IDLE_LIMIT,
        ),
        # Tenants share the client: a session cookie of one must not be sent for another.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        headers={"accept": "application/json", "user-agent": _user_agent()},
    )


@functools.cache
def _user_agent() -> str:
    return f"flyteagents/{version('flyteagents')}"


def _url(start: str, path: str, sent: Sent) -> httpx2.URL:
    import httpx2

    # Paths are made of ids that came over the wire.
    if any(part in (".", "..") for part in unquote(path.partition("?")[0]).split("/")):
        raise Forbidden("the vendor's API is not asked for a path with '..' in it")
    absolute = path.startswith(("http://", "https://"))
    text = path if absolute or not path else f"{start.rstrip('/')}/{path.lstrip('/')}"
    try:
        url = httpx2.URL(text or start)
    except httpx2.InvalidURL:
        raise Forbidden("the vendor's address or the path is not a valid URL") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise Forbidden("the vendor's address is not an http or https URL")
    params = {k: v for k, v in (sent.get("params") or {}).items() if v is not None}
    return url.copy_merge_params(params) if params else url


def _request(
    pool: httpx2.AsyncClient, method: str, url: httpx2.URL, endpoint: Endpoint, sent: Sent,
    limit: float, trip: _Trip,
) -> httpx2.Request:  # fmt: skip
    import httpx2

    try:
        headers = httpx2.Headers(dict(endpoint.headers))
        if endpoint.bearer is not None:
            headers["authorization"] = f"Bearer {endpoint.bearer}"
        headers.update(sent.get("headers"))
    except UnicodeEncodeError:
        raise _bad_header() from None
    TraceContextTextMapPropagator().inject(headers)
    content: dict[str, Any] = {k: sent.get(k) for k in ("json", "content") if k in sent}
    try:
        return pool.build_request(
            method, url, headers=headers, data=sent.get("form"), **content,
            timeout=httpx2.Timeout(limit, connect=CONNECT_LIMIT, pool=min(limit, POOL_LIMIT)),
            extensions={"trace": trip.trace},
        )  # fmt: skip
    except ValueError:
        raise InvalidTask("the request has a value that JSON cannot hold, like NaN") from None


async def _exchange(pool: httpx2.AsyncClient, request: httpx2.Request, trip: _Trip) -> Reply:
    response = await pool.send(request, stream=True)
    try:
        trip.status = response.status_code
        trip.wait = retry_after(response.headers)
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > REPLY_LIMIT:
                trip.final = True
                raise Unavailable(f"{trip.to} sent more than {REPLY_LIMIT >> 20} MiB")
    finally:
        await response.aclose()
    return Reply(response.status_code, dict(response.headers), bytes(body))


def _meaning(error: Exception, trip: _Trip, limit: float) -> BaseException:
    """Our error for what httpx2 raised; anything else as it is."""
    import httpx2

    to = trip.to
    if isinstance(error, (httpx2.ConnectTimeout, asyncio.TimeoutError)) and not trip.sent:
        return Unavailable(f"could not connect to {to} in time")
    if isinstance(error, httpx2.PoolTimeout):
        return Unavailable(f"all connections to {to} are in use")
    if isinstance(error, (httpx2.TimeoutException, asyncio.TimeoutError)):
        return Unavailable(f"no answer from {to} within {limit:g} s")
    if isinstance(error, httpx2.LocalProtocolError):
        trip.sent = False
        return _bad_header()
    if isinstance(error, (httpx2.ConnectError, httpx2.ProxyError)):
        return Unavailable(f"could not connect to {to}{_reason(error)}")
    if isinstance(error, httpx2.DecodingError):
        return Unavailable(f"the answer of {to} has a broken encoding")
    if isinstance(error, httpx2.TransportError):
        trip.broken = True
        return Unavailable(f"the connection to {to} broke, or what it answers is not HTTP")
    return error


def _reason(error: BaseException | None) -> str:
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return "" if error is None else f": its certificate is not trusted ({error.verify_message})"


def _bad_header() -> Unauthenticated:
    # The library's own error quotes the header.
    return Unauthenticated("a header is not valid HTTP; is there a line break in a credential?")


def _without(endpoint: Endpoint, error: AgentError) -> AgentError:
    """The error without the credentials, should the vendor have quoted them."""
    for secret in (endpoint.bearer, *endpoint.headers.values()):
        if secret and len(secret) >= 6 and secret in error.message:
            error.message = error.message.replace(secret, "[redacted]")
            error.args = (error.message,)
    return error


def _attributes(method: str, url: httpx2.URL, trip: _Trip) -> dict[str, str | int]:
    full = url.copy_with(userinfo=b"", query=None, fragment=None)
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "server.address": url.host,
        "server.port": url.port or (443 if url.scheme == "https" else 80),
        "url.full": str(full),
    }
    if trip.resent:
        attributes["http.request.resend_count"] = trip.resent
    return attributes
