"""The vendor's API in one call of an agent: credentials, retries, errors and spans."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, TypeVar, overload

from opentelemetry import trace
from pydantic import BaseModel

from flyteagents._call import Endpoint, Reply
from flyteagents._errors import AgentError, Throttled, Unauthenticated, Unavailable, VendorError
from flyteagents._telemetry.redact import remember
from flyteagents._vendor.budget import Budget
from flyteagents._vendor.hosts import check_host
from flyteagents._vendor.pool import Pool, Sent, Trip
from flyteagents._vendor.replies import error_of, fit

if TYPE_CHECKING:
    from typing_extensions import Unpack

M = TypeVar("M", bound=BaseModel)
_SAFE = frozenset(("GET", "HEAD", "PUT", "DELETE"))
_SECRET_HEADER = re.compile("auth|token|key|secret|cookie|passw|credential|sign", re.IGNORECASE)
_tracer = trace.get_tracer("flyteagents.http")


class VendorClient:
    """The connections of one agent. `hosts` are patterns of the hosts that get credentials;
    `observe` is told the status (None without a reply) and the seconds of each request."""

    def __init__(
        self,
        agent: str,
        hosts: Sequence[str],
        *,
        max_connections: int = 64,
        observe: Callable[[int | None, float], None] | None = None,
    ) -> None:
        self.agent, self.hosts = agent, hosts
        self.pool = Pool(max_connections)
        self.observe = observe or (lambda status, seconds: None)

    def bind(
        self,
        endpoint: Callable[[bool], Awaitable[Endpoint]],
        budget: Budget,
        explain: Callable[[Reply], AgentError | None] = lambda _: None,
    ) -> Http:
        """The client for one call. `endpoint(True)` must look past every cache of credentials."""
        return Http(self, endpoint, budget, explain)

    async def aclose(self) -> None:
        await self.pool.aclose()


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
        self._client, self._endpoint = client, endpoint
        self._budget, self._explain = budget, explain
        self.get, self.post = Method(self, "GET"), Method(self, "POST")
        self.put, self.patch = Method(self, "PUT"), Method(self, "PATCH")
        self.delete = Method(self, "DELETE")

    async def request(
        self, method: str, path: str, *, accept: Collection[int] = (), **sent: Unpack[Sent]
    ) -> Reply:
        """Any method; see the class."""
        budget, fresh, tries = self._budget, False, 0
        last: AgentError = Unavailable("there was no time left to ask the vendor")
        while not budget.closed and time.monotonic() < budget.until:
            trip = Trip()
            try:
                return await self._once(method, path, accept, sent, trip, fresh, tries)
            except Unauthenticated as error:
                if fresh or trip.status is None:
                    raise
                fresh, last = True, error
            except VendorError as error:
                pause = self._pause(method, trip, error, tries)
                if pause is None:
                    raise
                last = error
                await asyncio.sleep(pause)
            tries += 1
        raise last

    def _pause(self, method: str, trip: Trip, error: VendorError, tries: int) -> float | None:
        """Seconds before the next try, None when there is to be none."""
        budget, safe = self._budget, method in _SAFE
        if trip.stale and safe and tries == 0:
            return 0.0  # a connection closed meanwhile says nothing about the vendor
        unsent = not trip.sent or trip.status in (429, 503)
        if not budget.retries or trip.oversized or not (safe or unsent or budget.repeat == "any"):
            return None
        asked = error.retry_after if isinstance(error, Throttled) else trip.retry_after
        jitter = random.uniform(0.0, min(0.1 * 2**tries, 2.0))  # noqa: S311
        seconds = max(asked or 0.0, jitter)
        return seconds if time.monotonic() + seconds < budget.until else None

    async def _once(
        self, method: str, path: str, accept: Collection[int], sent: Sent, trip: Trip,
        fresh: bool, tries: int,
    ) -> Reply:  # fmt: skip
        client, limit = self._client, self._budget.limit
        try:
            endpoint = await asyncio.wait_for(self._endpoint(fresh), limit)
        except asyncio.TimeoutError:
            raise Unavailable(f"no credentials for the vendor within {limit:g} s") from None
        _remember(endpoint)
        target = await client.pool.target(endpoint.url, path, sent)
        check_host(target.host, client.hosts)
        began, why = time.monotonic(), ""
        attributes: dict[str, str | int] = {
            "http.request.method": method, "url.full": target.shown,
            "server.address": target.host, "server.port": target.port, "flyte.agent": client.agent,
        }  # fmt: skip
        if tries:
            attributes["http.request.resend_count"] = tries
        with _tracer.start_as_current_span(
            method, kind=trace.SpanKind.CLIENT, attributes=attributes,
            record_exception=False, set_status_on_exception=False,
        ) as span:  # fmt: skip
            try:
                reply = await client.pool.exchange(method, target, endpoint, sent, trip, limit)
                if 200 <= reply.status < 300 or reply.status in accept:
                    return reply
                why = str(reply.status)
            except AgentError as error:
                why = type(error).__name__
                raise
            finally:
                client.observe(trip.status, time.monotonic() - began)
                if trip.status is not None:
                    span.set_attribute("http.response.status_code", trip.status)
                if why:
                    span.set_attribute("error.type", why)
                    span.set_status(trace.StatusCode.ERROR)
        raise self._explain(reply) or error_of(reply, target.to)


class Method:
    """One HTTP method of the vendor's API; see `Http`."""

    def __init__(self, http: Http, name: str) -> None:
        self._http, self._name = http, name

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
        reply = await self._http.request(self._name, path, accept=accept, **sent)
        return reply if into is None else fit(into, reply)


def _remember(endpoint: Endpoint) -> None:
    """Have the credentials masked wherever they turn up: vendors quote them in errors."""
    if endpoint.bearer:
        remember(endpoint.bearer)
    for name, value in endpoint.headers.items():
        if _SECRET_HEADER.search(name):
            remember(value.partition(" ")[2] or value)
