"""The `Call` that agents see, and the one door into an agent.

Whatever the kernel wants of an agent goes through `ask`: the call names the method, what it is
about, and how long it may take, so nobody hands these along beside it. The door adds the agent's
place to run, the span, and the limit.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from flyteagents._errors import Throttled, Unavailable, VendorError
from flyteagents._http import Endpoint, Http, Reply
from flyteagents._kernel.codec import Codec
from flyteagents._kernel.copies import copied
from flyteagents._kernel.lane import EXITS, no_error
from flyteagents._kernel.requests import NO_CONNECTION, Connection
from flyteagents._kernel.returned import check_returned
from flyteagents._kernel.seen import UNCHANGED, Seen
from flyteagents._kernel.served import Place, ServedAgent
from flyteagents._kernel.stores import ERROR, OUTPUTS, read_file
from flyteagents._status import ErrorDocument, Status
from flyteagents._task import Fingerprint, Identity, Key
from flyteagents._types import Type
from flyteagents._vendor.budget import Budget, backoff, within

T = TypeVar("T")
CALL_LIMIT = 60.0
"""Seconds for one call of an agent: what never answers must not hold its place for ever. It is as
long as one request may take (`Budget.limit`), so a submit is never torn down by it."""

# About a job that may be there. What a create, a run or a check is answered is about itself.
_ASKING = frozenset(("find", "adopts", "get", "cancel", "logs"))


@dataclass(eq=False)
class KernelCall:
    """One call of an agent. operation: the name of its method. of: the task or the job.
    opening: the agent is asked for its endpoint, and so has none. seen: of a poll's job; heard:
    the replies that the poll has shown it, as a number."""

    served: ServedAgent
    operation: str
    identity: Identity
    budget: Budget
    of: object = None
    task_type: str = ""
    key: Key = Key("")  # noqa: RUF009 # frozen
    fingerprint: Fingerprint | None = None
    output_prefix: str = ""
    declared: Mapping[str, Type] = field(default_factory=dict)
    connection: Connection = NO_CONNECTION
    settling: bool = False
    adopted: bool = False
    fresh: bool = False
    opening: bool = False
    seen: Seen | None = None
    heard: int | None = None
    place: Place = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Taken now: while the call is under way the agent may be moved to another loop.
        self.place = self.served.place

    @property
    def configs(self) -> Mapping[str, str]:
        return self.connection.configs

    @property
    def remaining(self) -> float:
        return self.budget.left

    @property
    def trouble(self) -> str:
        return self.budget.trouble

    @functools.cached_property
    def http(self) -> Http:
        place = self.place
        asks = self.operation in _ASKING
        return place.client.bind(self._endpoint, self.budget, place.agent.explain, asks=asks)

    def forget_http(self) -> None:
        """At the end of the call. The two refer to each other: the call would stay until Python's
        next collection, with a task that may be megabytes."""
        self.__dict__.pop("http", None)

    def unchanged(self, reply: Reply) -> Status | None:
        if self.seen is None:
            return None
        # Each with those before it: the second one may be the same, and not the first.
        self.heard = hash((self.heard, reply.status, reply.body))
        return UNCHANGED if self.heard == self.seen.heard else None

    async def _endpoint(self, fresh: bool) -> Endpoint:
        agent = self.place.agent
        if self.opening:
            raise RuntimeError(
                f"{type(agent).__name__}.endpoint makes a request for which endpoint would be "
                "asked again, for ever; pass endpoint=Endpoint(...) with it"
            )
        # In every request, so not by the constructor; its client is made anew where it is used.
        call = copied(self, fresh=fresh, opening=True)
        call.forget_http()
        try:
            endpoint: Endpoint = await agent.endpoint(self.of, call)
            return endpoint
        finally:
            call.forget_http()

    async def secret(self, name: str) -> str:
        return self.served.secrets.require(name, self.connection.secrets)

    async def find_secret(self, name: str) -> str | None:
        return self.served.secrets.find(name, self.connection.secrets)

    async def sent_secret(self, name: str) -> str | None:
        return self.served.secrets.sent(name, self.connection.secrets)

    async def blocking(self, function: Callable[..., T], *args: object) -> T:
        loop = asyncio.get_running_loop()
        # Not in the loop's default executor: all agents would share it, and one slow vendor could
        # take every thread (rule 11).
        return await loop.run_in_executor(self.served.threads, functools.partial(function, *args))

    async def read_error(self, prefix: str = "") -> ErrorDocument | None:
        raw = await self._of_store(prefix, read_file, ERROR)
        return None if raw is None else self._codec.read_error(raw)

    async def read_outputs(self, prefix: str = "") -> Mapping[str, object] | None:
        def read(there: str) -> Mapping[str, object] | None:  # in the thread: it may be megabytes
            raw = read_file(there, OUTPUTS)
            return None if raw is None else self._codec.read_outputs(raw, self.declared)

        return await self._of_store(prefix, read)

    async def written_outputs(self) -> Collection[str] | None:
        """The names of the outputs that the job wrote. Raises as `read_outputs` does."""
        raw = await self._of_store("", read_file, OUTPUTS)
        return None if raw is None else self._codec.output_names(raw)

    async def _of_store(self, prefix: str, function: Callable[..., T], *args: object) -> T:
        prefix = prefix or self.output_prefix
        threads = self.served.stores.threads(prefix)
        return await asyncio.get_running_loop().run_in_executor(threads, function, prefix, *args)

    @property
    def _codec(self) -> Codec:
        assert self.served.codec is not None  # only `check` has none, and it has no job
        return self.served.codec


async def ask(
    call: KernelCall, *more: object, first: object = None, limit: float = CALL_LIMIT
) -> Any:
    """Call the agent's method with what the call is about and the call; `first` goes before these,
    `more` after them. Raises what the method raises, TypeError for what it must not return,
    RuntimeError for what it must not raise, and Unavailable when it takes more than `limit`
    seconds."""
    served, place = call.served, call.place
    method = getattr(place.agent, call.operation)
    about = () if call.of is None else (call.of,) if first is None else (first, call.of)
    with served.span(call.operation):
        try:
            value = await within(limit, place.lane.run(method, *about, call, *more))
            check_returned(call.operation, value, served.offered.models.job)
            return value
        except asyncio.TimeoutError:
            raise Unavailable(
                f"{served.task_type}: {call.operation} took over {limit:.0f} s"
            ) from None
        except (asyncio.CancelledError, GeneratorExit) as raised:
            # Vendors' libraries cancel what they wait for. Taken for the end of this task, it would
            # be told nobody: a poll would be no failed one, and a cancel one that was done.
            if _is_cancelled():
                raise
            raise no_error(raised) from raised
        except EXITS as raised:
            raise no_error(raised) from raised
        finally:
            call.forget_http()


def _is_cancelled() -> bool:
    """Whether somebody has cancelled the task that runs, or none does any more."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # what a loop leaves behind when it ends is closed without one
        return True
    # Python 3.10 does not say, and what a drain cancels must end.
    return task is None or not hasattr(task, "cancelling") or task.cancelling() > 0


async def ask_patiently(call: KernelCall, *, first: object = None) -> Any:
    """`ask` again while the vendor fails and the call's budget lasts. For what is safe to
    repeat."""
    tries = 0
    while True:
        try:
            return await ask(call, first=first)
        except VendorError as error:
            asked = error.retry_after if isinstance(error, Throttled) else None
            seconds = backoff(tries, asked)
            if seconds >= call.budget.left:
                raise
            call.budget.trouble = error.message
        await asyncio.sleep(seconds)
        tries += 1
        call = replace(call)  # anew, since the agent may be on another loop by now
