"""The vendor's API over HTTP: one pool for each agent, a limit on everything, errors of ours.

httpx2 is behind this module and in none of its signatures.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload
from urllib.parse import urlsplit, urlunsplit

from opentelemetry import propagate, trace
from pydantic import BaseModel, ValidationError

from flyteagents._call import Endpoint, Reply
from flyteagents._errors import AgentError, Throttled, Unauthenticated, Unavailable, VendorError
from flyteagents._vendor.budget import Budget
from flyteagents._vendor.hosts import check_host
from flyteagents._vendor.replies import error_of, retry_after

if TYPE_CHECKING:
    import httpx2

M = TypeVar("M", bound=BaseModel)
Params = Mapping[str, str | int | float | bool | None]
CONNECT_LIMIT = 3.0
BODY_LIMIT = 64 << 20
_SAFE = frozenset(("GET", "HEAD", "PUT", "DELETE"))
_tracer = trace.get_tracer("flyteagents.http")


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    params: Params | None
    headers: Mapping[str, str]
    json: object
    form: Mapping[str, str] | None
    content: bytes | None


class _NoReply(Unavailable):
    """There was no reply. `sent` is False where the vendor surely has not seen the request."""

    def __init__(self, message: str, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class VendorClient:
    """The connections of one agent. `hosts` are patterns of hosts that get credentials."""

    def __init__(
        self,
        agent: str,
        hosts: Sequence[str],
        *,
        max_connections: int = 64,
        observe: Callable[[int | None, float], None] | None = None,
    ) -> None:
        self.agent = agent
        self.hosts = hosts
        self._max = max_connections
        self._observe = observe or (lambda status, seconds: None)
        self._client: httpx2.AsyncClient | None = None

    def bind(
        self,
        endpoint: Callable[[bool], Awaitable[Endpoint]],
        budget: Budget,
        explain: Callable[[Reply], AgentError | None] = lambda _: None,
    ) -> Http:
        """The client for one call. `endpoint(True)` must look past every cache of credentials."""
        return Http(self, endpoint, budget, explain)

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def send(self, endpoint: Endpoint, request: _Request, limit: float, again: int) -> Reply:
        """One request on the wire. Raises Unavailable when there is no reply."""
        url = _join(endpoint.url, request.path)
        parts = urlsplit(url)
        check_host(parts.hostname or "", self.hosts)
        shown = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        attributes: dict[str, str | int] = {
            "http.request.method": request.method,
            "server.address": parts.hostname or "",
            "server.port": parts.port or (443 if parts.scheme == "https" else 80),
            "url.full": shown,
            "flyte.agent": self.agent,
        }
        if again:
            attributes["http.request.resend_count"] = again
        started = time.perf_counter()
        status: int | None = None
        with _tracer.start_as_current_span(
            request.method, kind=trace.SpanKind.CLIENT, attributes=attributes,
            record_exception=False, set_status_on_exception=False,
        ) as span:  # fmt: skip
            try:
                reply = await asyncio.wait_for(self._exchange(url, endpoint, request), limit)
                status = reply.status
                span.set_attribute("http.response.status_code", status)
                if status >= 400:
                    span.set_attribute("error.type", str(status))
                    span.set_status(trace.Status(trace.StatusCode.ERROR))
                return reply
            except asyncio.TimeoutError:
                span.set_status(trace.Status(trace.StatusCode.ERROR, "timeout"))
                raise _NoReply(f"no answer from {parts.hostname} in {limit:.0f} s", True) from None
            except _NoReply as error:
                span.set_status(trace.Status(trace.StatusCode.ERROR, error.message))
                raise
            finally:
                self._observe(status, time.perf_counter() - started)

    async def _exchange(self, url: str, endpoint: Endpoint, request: _Request) -> Reply:
        import httpx2  # 120 ms; an agent without HTTP never pays them

        if self._client is None:
            for name in ("httpx2", "httpcore2"):  # they log URLs, and URLs hold tokens
                logging.getLogger(name).setLevel(logging.WARNING)
            self._client = httpx2.AsyncClient(
                limits=httpx2.Limits(
                    max_connections=self._max, max_keepalive_connections=self._max
                ),
                timeout=httpx2.Timeout(None, connect=CONNECT_LIMIT),
                follow_redirects=False,
            )
        headers = {**endpoint.headers, **request.headers}
        if endpoint.bearer is not None:
            headers["Authorization"] = f"Bearer {endpoint.bearer}"
        propagate.inject(headers)
        host = urlsplit(url).netloc.rpartition("@")[2]
        try:
            async with self._client.stream(
                request.method, url, params=request.params, headers=headers, json=request.json,
                data=request.form, content=request.content,
            ) as response:  # fmt: skip
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > BODY_LIMIT:
                        raise _NoReply(f"the reply of {host} is over {BODY_LIMIT} bytes", True)
                found = {name.lower(): value for name, value in response.headers.items()}
                return Reply(response.status_code, found, bytes(body))
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            # Only the kind: the text may hold the URL with its query.
            raise _NoReply(f"cannot connect to {host} ({type(error).__name__})", False) from None
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol):
            raise Unavailable(f"the vendor's URL for {host!r} is not one") from None
        except httpx2.HTTPError as error:
            raise _NoReply(f"{host} broke off ({type(error).__name__})", True) from None


class Http:
    """The vendor's API in one call of an agent: credentials, retries and errors are seen to.

    Paths are relative to the endpoint. With `into`, the reply's JSON is checked by that model;
    without, a `Reply` is returned. Statuses of 300 and more raise, but for those in `accept`.

    Raises InvalidTask (400, 422), Unauthenticated (401 after fresh credentials), Forbidden (403,
    or a host that is not allowed), JobNotFound (404, 410), JobConflict (409), Throttled (429),
    Unavailable (5xx, no reply); or what the agent's `explain` makes of the reply.
    """

    def __init__(
        self,
        client: VendorClient,
        endpoint: Callable[[bool], Awaitable[Endpoint]],
        budget: Budget,
        explain: Callable[[Reply], AgentError | None],
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._budget = budget
        self._explain = explain

    @overload
    async def get(
        self,
        path: str,
        *,
        into: type[M],
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> M: ...
    @overload
    async def get(
        self,
        path: str,
        *,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
    ) -> Reply: ...
    async def get(self, path: str, **options: Any) -> Any:
        """GET, safe to repeat."""
        return await self.request("GET", path, **options)

    @overload
    async def post(
        self,
        path: str,
        *,
        into: type[M],
        json: object = None,
        form: Mapping[str, str] | None = None,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> M: ...
    @overload
    async def post(
        self,
        path: str,
        *,
        json: object = None,
        form: Mapping[str, str] | None = None,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
    ) -> Reply: ...
    async def post(self, path: str, **options: Any) -> Any:
        """POST. In create it is repeated freely only where the agent's idempotency is "vendor"."""
        return await self.request("POST", path, **options)

    @overload
    async def put(
        self,
        path: str,
        *,
        into: type[M],
        json: object = None,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> M: ...
    @overload
    async def put(
        self,
        path: str,
        *,
        json: object = None,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
    ) -> Reply: ...
    async def put(self, path: str, **options: Any) -> Any:
        """PUT, safe to repeat."""
        return await self.request("PUT", path, **options)

    async def delete(
        self, path: str, *, params: Params | None = None, accept: Collection[int] = ()
    ) -> Reply:
        """DELETE, safe to repeat."""
        reply: Reply = await self.request("DELETE", path, params=params, accept=accept)
        return reply

    async def request(
        self,
        method: str,
        path: str,
        *,
        into: type[BaseModel] | None = None,
        json: object = None,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
    ) -> Any:
        """Any method; see the class."""
        request = _Request(method, path, params, headers or {}, json, form, content)
        tries = 0
        while True:
            try:
                reply = await self._once(request, accept, tries)
                break
            except VendorError as error:
                await self._pause(request, error, tries)
                tries += 1
        if into is None:
            return reply
        try:
            # A vendor's reply has more fields than anybody asked for, also where a Job, which
            # refuses unknown ones in an envelope, is read from it.
            return into.model_validate_json(reply.body, extra="ignore")
        except ValidationError as error:
            fields = ", ".join(
                ".".join(map(str, e["loc"])) or e["type"]
                for e in error.errors(include_url=False, include_input=False)[:5]
            )
            raise Unavailable(
                f"the vendor's reply ({reply.status}) is not a {into.__name__}: {fields}"
            ) from None

    async def _once(self, request: _Request, accept: Collection[int], again: int) -> Reply:
        fresh = False
        while True:
            if self._budget.closed:
                raise Unavailable("the caller was answered; nothing new is sent")
            endpoint = await self._endpoint(fresh)
            reply = await self._client.send(endpoint, request, self._budget.limit, again)
            if reply.status < 300 or reply.status in accept:
                return reply
            error = self._explain(reply) or error_of(reply)
            if not isinstance(error, Unauthenticated) or fresh:
                if isinstance(error, Throttled) and error.retry_after is None:
                    error.retry_after = retry_after(reply)
                raise error
            fresh = True

    async def _pause(self, request: _Request, error: VendorError, tries: int) -> None:
        """Wait for the next try, or raise the error when there is none."""
        budget = self._budget
        sent = not isinstance(error, _NoReply) or error.sent
        repeatable = (
            request.method in _SAFE
            or budget.repeat == "any"
            or not sent
            or isinstance(error, Throttled)
        )
        asked = error.retry_after if isinstance(error, Throttled) else None
        seconds = asked or random.uniform(0.05, min(0.1 * 2**tries, 2.0))  # noqa: S311
        if not budget.retries:
            # A pooled connection that the vendor closed meanwhile says nothing about the vendor.
            stale = isinstance(error, _NoReply) and error.sent and "RemoteProtocol" in error.message
            if tries or not stale or request.method not in _SAFE:
                raise error
            return
        if not repeatable or budget.closed or time.monotonic() + seconds >= budget.until:
            raise error
        await asyncio.sleep(seconds)


def _join(base: str, path: str) -> str:
    return path if "://" in path else f"{base.rstrip('/')}/{path.lstrip('/')}"
