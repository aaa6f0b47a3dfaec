"""What this replica has sent: it knows that its own second send is none of a first time. Losing
it costs nothing but that."""

from __future__ import annotations

from collections import OrderedDict

from flyteagents import Key

KEPT = 10_000


class Sent:
    """The keys of the latest submits."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, None] = OrderedDict()

    def add(self, key: Key) -> None:
        self._keys[key.hex] = None
        self._keys.move_to_end(key.hex)
        if len(self._keys) > KEPT:
            self._keys.popitem(last=False)

    def has(self, key: Key) -> bool:
        return key.hex in self._keys
