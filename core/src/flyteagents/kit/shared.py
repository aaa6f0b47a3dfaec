"""Work that many calls wait for, and that is done once: a token, a file that must be in its place.

It is done in the time of the call that began it. Where that ends, it says nothing of the vendor: of
the others who wait, one that has time left begins it anew.

```python
kept: Shared[Token] = Shared()
token = await kept.get(self._obtain, call)   # with whoever else waits for it
```
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from flyteagents import Call, VendorError

__all__ = ["Shared"]

T = TypeVar("T")


class Shared(Generic[T]):
    """One piece of work, at most once at a time. What comes of it is not kept."""

    def __init__(self) -> None:
        self._task: asyncio.Task[T] | None = None
        self._payer: Call | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return self._task is None or self._task.done()

    async def get(self, work: Callable[[Call], Awaitable[T]], call: Call) -> T:
        """What comes of the work that is under way, or of one that begins now, with `call`. Raises
        what the work raises; CancelledError after `cancel`."""
        while True:
            task = self.begin(work, call)
            payer = self._payer
            try:
                # Shielded: others wait for it too, and this call may be given up.
                return await asyncio.shield(task)
            except VendorError:
                if payer is None or payer is call or payer.remaining > 0 or call.remaining <= 0:
                    raise

    def begin(self, work: Callable[[Call], Awaitable[T]], call: Call) -> asyncio.Task[T]:
        """As `get`, and nobody waits. What it raises is for the caller to take."""
        if self._task is None or self._task.done():
            self._payer = call
            self._task = asyncio.ensure_future(self._pay(work, call))
        return self._task

    def cancel(self) -> None:
        """Give up what is under way."""
        if self._task is not None:
            self._task.cancel()

    async def _pay(self, work: Callable[[Call], Awaitable[T]], call: Call) -> T:
        try:
            return await work(call)
        finally:
            self._payer = None  # who waits knows it; a call holds its caller's secrets
