"""Tokens of all identities that the agent works as: kept, and renewed before they expire."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from flyteagents import Call
from flyteagents_bigquery.credentials import Source, Token

log = logging.getLogger("flyteagents.bigquery")
AHEAD = 300.0
"""Seconds before its end in which a token is renewed in the background."""
PAUSE = 30.0
"""Seconds between two such renewals: a metadata server may give out tokens near their end."""
JUST_NOW = 2.0
"""Seconds in which a token counts as fresh: all polls under way learn of a refusal at once."""
END = 10.0
KEPT = 512


@dataclass
class Kept:
    """One identity's token, and the renewal that is under way."""

    token: Token | None = None
    obtained: float = 0.0
    again: float = 0.0
    renewal: asyncio.Task[Token] | None = None


class Tokens:
    """Gives out tokens; one request for a token at a time for each identity.

    What is kept are tokens, no keys: identities are known by a salted digest.
    """

    def __init__(self, obtain: Callable[[Source], Token]) -> None:
        self._obtain = obtain
        self._salt = secrets.token_bytes(16)
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()

    async def token(self, source: Source, call: Call) -> Token:
        """A token that lasts. Raises what `obtain` raises."""
        kept, now = self._entry(source), time.time()
        usable = kept.token is not None and now < kept.token.expires - END
        if call.fresh and now - kept.obtained > JUST_NOW:
            usable = False
        if usable:
            assert kept.token is not None  # what usable means
            if now > max(kept.token.expires - AHEAD, kept.again) and _idle(kept):
                self._renew(kept, source, call).add_done_callback(_say)
            return kept.token
        return await asyncio.shield(self._renew(kept, source, call))

    def close(self) -> None:
        """Forget everything."""
        for kept in self._kept.values():
            if kept.renewal is not None:
                kept.renewal.cancel()
        self._kept.clear()

    def _entry(self, source: Source) -> Kept:
        text = f"{source.impersonate}\0{source.key}".encode()
        name = hashlib.blake2b(text, key=self._salt, digest_size=16).digest()
        kept = self._kept.setdefault(name, Kept())
        self._kept.move_to_end(name)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return kept

    def _renew(self, kept: Kept, source: Source, call: Call) -> asyncio.Task[Token]:
        if kept.renewal is None or kept.renewal.done():
            kept.again = time.time() + PAUSE
            kept.renewal = asyncio.ensure_future(self._ask(kept, source, call))
        return kept.renewal

    async def _ask(self, kept: Kept, source: Source, call: Call) -> Token:
        kept.token = token = await call.blocking(self._obtain, source)
        kept.obtained = time.time()
        return token


def _idle(kept: Kept) -> bool:
    return kept.renewal is None or kept.renewal.done()


def _say(renewal: asyncio.Task[Token]) -> None:
    """The token that there is still serves; the next call tries again."""
    if not renewal.cancelled() and (error := renewal.exception()) is not None:
        log.warning("an access token could not be renewed ahead of its end: %s", error)
