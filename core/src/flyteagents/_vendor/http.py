"""The vendor's API in one call of an agent: credentials, retries, errors and spans."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, overload

from opentelemetry import trace
from pydantic import BaseModel

from flyteagents._call import Endpoint, Reply
from flyteagents._errors import AgentError, Throttled, Unauthenticated, Unavailable, VendorError
from flyteagents._vendor.budget import OUT_OF_TIME, Budget, backoff, within
from flyteagents._vendor.hosts import check_host
from flyteagents._vendor.replies import error_of, fit, retry_after

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flyteagents._vendor.pool import Pool, Trip
    from flyteagents._vendor.written import Sent

M = TypeVar("M", bound=BaseModel)
Opening = Callable[[bool], Awaitable[Endpoint]]
Explain = Callable[[Reply], AgentError | None]
_SAFE = frozenset(("GET", "HEAD", "PUT", "DELETE"))
_tracer = trace.get_tracer("flyteagents.http")


@dataclass(eq=False)
class VendorClient:
    """The connections of one agent. `hosts` are patterns of the hosts that get credentials;
    `observe` is told the status (None without a reply) and the seconds of each request."""

    agent: str
    hosts: Sequence[str]
    max_connections: int = 64
    observe: Callable[[int | None, float], None] | None = None
    _pool: Pool | None = field(default=None, init=False)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def bind(self, endpoint: Opening, budget: Budget, explain: Explain = lambda _: None) -> Http:
        """The client for one call. `endpoint(True)` must look past every cache of credentials."""
        return Http(self, endpoint, budget, explain)

    async def pool(self) -> Pool:
        async with self._opening:
            if self._pool is None:
                # In a thread: the import and the system's certificates would block the loop.
                self._pool = await asyncio.to_thread(_pool, self.max_connections)
            return self._pool

    async def aclose(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()


def _pool(connections: int) -> Pool:
    from flyteagents._vendor.pool import Pool

    return Pool(connections)


class Http:
    """Requests to the vendor, with the methods get, post, put, patch and delete.

    ```python
    state = await call.http.get(f"/jobs/{job.id}", into=AcmeState)        # a pydantic model
    reply = await call.http.put("/jobs/x", json=body, accept=[409])       # a Reply, also for 409
    ```
    Paths are relative to the endpoint; absolute URLs must be of an allowed host. With `into`, the
    reply's JSON is checked by that model; without, a `Reply` is returned. Other statuses than 2xx
    raise, but for those in `accept`; redirects are not followed. Requests are repeated while there
    is time, as far as that is safe, and after a 401 once with a fresh endpoint.

    `endpoint=Endpoint(...)` is for a request to another service, a token endpoint say: the agent's
    `endpoint` is not asked, so it may use this itself, and a 401 is not repeated.

    Raises InvalidTask (400, 422), Unauthenticated (401 after fresh credentials), Forbidden (403,
    or a host that is not allowed), JobNotFound (404, 410), JobConflict (409), Throttled (429),
    Unavailable (5xx, no reply); or what the agent's `explain` makes of the reply.
    """

    def __init__(
        self, client: VendorClient, endpoint: Opening, budget: Budget, explain: Explain
    ) -> None:
        self._client, self._endpoint = client, endpoint
        self._budget, self._explain = budget, explain
        self.get, self.post = Method(self, "GET"), Method(self, "POST")
        self.put, self.patch = Method(self, "PUT"), Method(self, "PATCH")
        self.delete = Method(self, "DELETE")

    async def request(
        self,
        method: str,
        path: str,
        *,
        accept: Collection[int] = (),
        endpoint: Endpoint | None = None,
        **sent: Unpack[Sent],
    ) -> Reply:
        """Any method; see the class."""
        budget, fresh, tries = self._budget, False, 0
        last: AgentError = Unavailable(OUT_OF_TIME)
        while budget.left > 0:
            trip = (await self._client.pool()).trip(method, path, sent)
            try:
                return await self._once(trip, accept, endpoint, fresh, tries)
            except Unauthenticated as error:
                if fresh or endpoint is not None or trip.came == "unsent":
                    raise
                fresh, last = True, error
            except VendorError as error:
                pause = self._pause(trip, error, tries)
                if time.monotonic() + pause >= budget.until:
                    raise
                last = error
                await asyncio.sleep(pause)
            tries += 1
        raise last

    def _pause(self, trip: Trip, error: VendorError, tries: int) -> float:
        """Seconds before the next try; for ever when there is to be none."""
        budget, safe = self._budget, trip.method in _SAFE
        if trip.came == "stale" and safe and tries == 0:
            return 0.0  # a connection closed meanwhile says nothing about the vendor
        may = safe or trip.came == "unsent" or budget.repeat == "any"
        if not may or not budget.retries or trip.came == "oversized":
            return math.inf
        asked = error.retry_after if isinstance(error, Throttled) else trip.retry_after
        return backoff(tries, asked)

    async def _once(
        self,
        trip: Trip,
        accept: Collection[int],
        endpoint: Endpoint | None,
        fresh: bool,
        tries: int,
    ) -> Reply:
        client, limit = self._client, self._budget.limit
        try:
            if endpoint is None:
                endpoint = await within(limit, self._endpoint(fresh))
            trip.aim(endpoint)
        except asyncio.TimeoutError:
            raise Unavailable(f"no credentials for the vendor within {limit:g} s") from None
        check_host(trip.host, client.hosts)
        attributes = {"http.request.method": trip.method, "flyte.agent": client.agent, **trip.where}
        if tries:
            attributes["http.request.resend_count"] = tries
        began, status = time.monotonic(), None
        with _tracer.start_as_current_span(
            trip.method, kind=trace.SpanKind.CLIENT, attributes=attributes,
            record_exception=False, set_status_on_exception=False,
        ) as span:  # fmt: skip
            try:
                reply = await trip.exchange(limit, self._budget)
                status = reply.status
                span.set_attribute("http.response.status_code", status)
                if 200 <= status < 300 or status in accept:
                    return reply
                trip.retry_after = retry_after(reply.headers)
                if status in (407, 429, 503):
                    trip.came = "unsent"  # it was turned away, by the vendor or by a proxy
                raise self._explain(reply) or error_of(reply, trip.to)
            except AgentError as error:
                span.set_attribute("error.type", str(status or type(error).__name__))
                span.set_status(trace.StatusCode.ERROR)
                raise
            finally:
                if client.observe is not None:
                    client.observe(status, time.monotonic() - began)


class Method:
    """One HTTP method of the vendor's API; see `Http`."""

    def __init__(self, http: Http, name: str) -> None:
        self._http, self._name = http, name

    @overload
    async def __call__(
        self,
        path: str,
        *,
        into: type[M],
        endpoint: Endpoint | None = None,
        **sent: Unpack[Sent],
    ) -> M: ...
    @overload
    async def __call__(
        self,
        path: str,
        *,
        accept: Collection[int] = (),
        endpoint: Endpoint | None = None,
        **sent: Unpack[Sent],
    ) -> Reply: ...
    async def __call__(
        self,
        path: str,
        *,
        into: type[M] | None = None,
        accept: Collection[int] = (),
        endpoint: Endpoint | None = None,
        **sent: Unpack[Sent],
    ) -> M | Reply:
        reply = await self._http.request(self._name, path, accept=accept, endpoint=endpoint, **sent)
        return reply if into is None else fit(into, reply)
