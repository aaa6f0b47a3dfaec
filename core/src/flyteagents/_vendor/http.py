"""The vendor's API in one call of an agent: credentials, retries, errors and spans."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import StatusCode

from flyteagents._errors import (
    AgentError,
    Forbidden,
    InvalidTask,
    JobConflict,
    JobNotFound,
    Throttled,
    Unauthenticated,
    Unavailable,
    VendorError,
)
from flyteagents._http import Endpoint, Http, Reply, Sent
from flyteagents._telemetry.tracing import vendor_span
from flyteagents._vendor.budget import OUT_OF_TIME, Budget, backoff, within
from flyteagents._vendor.hosts import check_host
from flyteagents._vendor.replies import error_of, in_json, is_page, retry_after, turned_away

if TYPE_CHECKING:
    from flyteagents._vendor.pool import Pool, Trip

Opening = Callable[[bool], Coroutine[Any, Any, Endpoint]]
Explain = Callable[[Reply], AgentError | None]
# Idempotent by RFC 9110, 9.2.2: a second one leaves the vendor as the first did.
_SAFE = frozenset(("GET", "HEAD", "PUT", "DELETE"))
# What ends a job, or says that there is none.
_ENDS = (InvalidTask, JobConflict, JobNotFound)


@dataclass(eq=False)
class VendorClient:
    """The connections of one agent. `hosts` are patterns of the hosts that get credentials;
    `observe` is told the status (None without a reply) and the seconds of each request."""

    agent: str
    hosts: Sequence[str]
    max_connections: int = 64
    observe: Callable[[int | None, float], None] | None = None
    opened: Pool | None = field(default=None, init=False)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def bind(
        self,
        endpoint: Opening,
        budget: Budget,
        explain: Explain = lambda _: None,
        *,
        asks: bool = False,
    ) -> Http:
        """The client for one call. `endpoint(True)` must look past every cache of credentials.
        asks: it asks about a job that may be there, which no gateway's words must end."""
        return Http(Requests(self, endpoint, budget, explain, asks).send)

    async def pool(self) -> Pool:
        async with self._opening:
            if self.opened is None:
                # In a thread: the import and the system's certificates would block the loop.
                self.opened = await asyncio.to_thread(_pool, self.max_connections)
            return self.opened

    async def aclose(self) -> None:
        if self.opened is not None:
            await self.opened.aclose()


def _pool(connections: int) -> Pool:
    from flyteagents._vendor.pool import Pool

    return Pool(connections)


class Requests:
    """The requests of one call: with credentials, repeated as far as that is safe."""

    def __init__(
        self,
        client: VendorClient,
        endpoint: Opening,
        budget: Budget,
        explain: Explain,
        asks: bool,
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._budget = budget
        self._explain = explain
        self._asks = asks

    async def send(self, method: str, path: str, accept: Collection[int], sent: Sent) -> Reply:
        """See `Http`."""
        budget, fresh, tries = self._budget, False, 0
        last: AgentError = Unavailable(OUT_OF_TIME)
        while budget.left > 0:
            pool = self._client.opened or await self._client.pool()
            trip = pool.trip(method, path, sent)
            try:
                return await self._once(trip, accept, sent.get("endpoint"), fresh, tries)
            except Unauthenticated as error:
                # They were tried, or would not help: the request brought its own, or this no is
                # not the vendor's but came while credentials were got.
                if fresh or "endpoint" in sent or trip.came == "unsent":
                    raise
                # The vendor's no counts only once fresh credentials were tried.
                fresh = True
                last = Unavailable(f"{error.message}; no time was left to try fresh credentials")
            except VendorError as error:
                pause = self._pause(trip, error, tries)
                # Told now: the vendor's own words say more than OUT_OF_TIME after a sleep.
                if time.monotonic() + pause >= budget.until:
                    raise
                last = error.with_traceback(None)  # as in `_once`
                budget.trouble = error.message
                await asyncio.sleep(pause)
            tries += 1
        try:
            raise last
        finally:
            del last

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
        # For each request, not once at start: a path may be a whole URL, and an endpoint may
        # name another host for each job.
        check_host(trip.host, client.hosts)
        attributes = {"http.request.method": trip.method, "flyte.agent": client.agent, **trip.where}
        if tries:
            attributes["http.request.resend_count"] = tries
        began, status = time.monotonic(), None
        with vendor_span(trip.method, attributes) as span:
            try:
                reply = await trip.exchange(limit, self._budget)
                status = reply.status
                span.set_attribute("http.response.status_code", status)
                if 200 <= status < 300 or status in accept:
                    return reply
                trip.retry_after = retry_after(reply.headers)
                if turned_away(reply):
                    trip.came = "unsent"
                # Not kept in a variable: an error refers to the frames it went through, so the two
                # would hold each other, and the request's body with them.
                raise self._refusal(reply, trip, endpoint)
            except AgentError as error:
                span.set_attribute("error.type", str(status or type(error).__name__))
                span.set_status(StatusCode.ERROR)
                raise
            finally:
                if client.observe is not None:
                    client.observe(status, time.monotonic() - began)

    def _refusal(self, reply: Reply, trip: Trip, endpoint: Endpoint) -> AgentError:
        explained = self._explain(reply)
        refusal = explained or error_of(reply, trip.to)
        # What an agent makes of a text counts: its vendor may write no JSON.
        foreign = is_page(reply) or (explained is None and not in_json(reply))
        if self._asks and foreign and isinstance(refusal, _ENDS):
            # Gateways have statuses too, and these tell nothing of the job behind them.
            refusal = Unavailable(f"{refusal.message} (not in JSON: it may be a gateway's)")
        if isinstance(refusal, Throttled) and refusal.retry_after is None:
            refusal.retry_after = trip.retry_after  # an agent reads the body alone
        if endpoint.shown and isinstance(refusal, Unauthenticated | Forbidden):
            refusal.message += f" | credentials: {endpoint.shown}"
        return refusal
