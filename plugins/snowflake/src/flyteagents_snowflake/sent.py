"""Which statements this replica has sent, so that its own second send is none of a first time.
Losing it costs one look, or one run, more."""

from __future__ import annotations

from collections import OrderedDict

from flyteagents import Key

KEPT = 10_000


class Sent:
    """The latest keys."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, None] = OrderedDict()

    def add(self, key: Key) -> None:
        """Its statement is being sent."""
        self._keys[key.hex] = None
        self._keys.move_to_end(key.hex)
        if len(self._keys) > KEPT:
            self._keys.popitem(last=False)

    def has(self, key: Key) -> bool:
        return key.hex in self._keys
