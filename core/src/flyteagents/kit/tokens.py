"""Access tokens of all identities that an agent works as.

`endpoint` is asked before each request, with many polls under way at once, so a token must cost
nothing while it lasts: one request for it at a time, shared by all who wait, and the next one
fetched in the background before the last one ends.

```python
async def open(self) -> None:
    self._tokens = Tokens(self._obtain)

async def endpoint(self, of: object, call: Call) -> Endpoint:
    token = await self._tokens.get(self.settings.client_id, call)
    return Endpoint(self.settings.url, bearer=token.value)
```
`_obtain(client_id, call)` fetches a new one; `flyteagents.kit.oauth` does that for OAuth.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from flyteagents import Call
from flyteagents.kit.shared import Shared

__all__ = ["Identified", "Token", "Tokens"]

log = logging.getLogger("flyteagents.kit.tokens")

AHEAD = 300.0
"""Seconds before its end in which a token is renewed in the background."""
PAUSE = 30.0
"""Seconds between two such renewals: a metadata server may give out tokens near their end."""
JUST_NOW = 2.0
"""Seconds in which a token counts as fresh: all polls under way learn of a refusal at once."""
END = 10.0
"""Seconds before its end in which a token is not used: the request has yet to arrive."""
KEPT = 512
"""Identities whose tokens are kept: those used last."""


@dataclass(frozen=True)
class Token:
    """An access token. `expires` is a time of `time.time()`. Subclass it for more."""

    value: str = field(repr=False)
    expires: float


class Identified(Protocol):
    """Where a token comes from. Of `identity` only a salted digest is kept, so it may hold a key;
    it must be another one for another key."""

    @property
    def identity(self) -> str: ...


S = TypeVar("S", bound="str | Identified")
T = TypeVar("T", bound=Token)


@dataclass
class _Kept(Generic[T]):
    """One identity's token, and its renewal. `obtained` is by `time.monotonic()`."""

    token: T | None = None
    obtained: float = -math.inf
    again: float = 0.0
    renewal: Shared[T] = field(default_factory=Shared)


class Tokens(Generic[S, T]):
    """Gives out tokens. Make one in the agent's `open`, and close it in `close`.

    obtain: fetches a new token. What it raises reaches the caller: Unauthenticated for what can
    never work, Unavailable or Throttled for what may work next time.
    """

    def __init__(self, obtain: Callable[[S, Call], Awaitable[T]]) -> None:
        self._obtain = obtain
        self._salt = secrets.token_bytes(16)
        self._kept: OrderedDict[bytes, _Kept[T]] = OrderedDict()

    async def get(self, source: S, call: Call) -> T:
        """A token that lasts. With `call.fresh` a new one, unless it was obtained just now."""
        kept, now = self._entry(source), time.time()
        token = kept.token

        # Not by the clock, which may be set back: a refused token would be given out again.
        refused = call.fresh and time.monotonic() - kept.obtained > JUST_NOW
        if token is None or refused or now >= token.expires - END:
            return await kept.renewal.get(functools.partial(self._ask, kept, source), call)

        if now > max(token.expires - AHEAD, kept.again) and kept.renewal.idle:
            obtain = functools.partial(self._ask, kept, source)
            kept.renewal.begin(obtain, call).add_done_callback(_tell)
        return token

    def close(self) -> None:
        """Forget everything."""
        for kept in self._kept.values():
            kept.renewal.cancel()
        self._kept.clear()

    def _entry(self, source: S) -> _Kept[T]:
        text = source if isinstance(source, str) else source.identity
        name = hashlib.blake2b(text.encode(), key=self._salt, digest_size=16).digest()

        kept = self._kept.setdefault(name, _Kept())
        self._kept.move_to_end(name)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return kept

    async def _ask(self, kept: _Kept[T], source: S, call: Call) -> T:
        kept.again = time.time() + PAUSE
        kept.token = token = await self._obtain(source, call)
        kept.obtained = time.monotonic()
        return token


def _tell(renewal: asyncio.Task[Any]) -> None:
    """The token that there is still serves; a later call tries again."""
    # An error that nobody takes is logged by asyncio, with its traceback.
    if not renewal.cancelled() and (error := renewal.exception()) is not None:
        log.warning("an access token could not be renewed ahead of its end: %s", error)
