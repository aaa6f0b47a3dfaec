"""What tasks' templates say, read once for everybody who runs them.

Tasks are few and attempts are many, so most creates bring a template that was read before. What is
kept is bound by the memory that it takes: an interface of 16 kB is a megabyte as objects, and it
comes over the wire.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import timedelta
from enum import Enum
from math import inf
from sys import getsizeof
from typing import Any

from flyteidl.core.tasks_pb2 import TaskTemplate

from flyteagents._task import Container, Fingerprint, Identity, Key, Task
from flyteagents._wire.structs import from_struct
from flyteagents._wire.types import decode_variables

LONGEST = 16 * 1024
"""Bytes of a template that is kept, as it came over the wire."""
ALL, ONE = 4 << 20, 256 << 10
"""Bytes of memory that templates take, in all and each."""
_NOBODY = Identity()


class Templates:
    """The templates that were read last, at most `most` bytes of them."""

    def __init__(self, most: int = ALL) -> None:
        self._most = most
        self._held = 0
        self._known: OrderedDict[bytes, tuple[Task[Any], int]] = OrderedDict()

    def read(self, raw: bytes) -> Task[Any]:
        """The task in the template, with nothing of an attempt. It is shared: what a caller
        changes, it changes for all. Raises what `read_template` does."""
        known = self._known.get(raw)
        if known is not None:
            self._known.move_to_end(raw)
            return known[0]
        task = read_template(raw)
        if len(raw) <= LONGEST:
            self._keep(raw, task)
        return task

    def _keep(self, raw: bytes, task: Task[Any]) -> None:
        most = min(ONE, self._most)
        size = memory_of((raw, task), most)
        if size > most:
            return
        self._known[raw] = task, size
        self._held += size
        while self._held > self._most:
            _, (_, freed) = self._known.popitem(last=False)
            self._held -= freed

    def __len__(self) -> int:
        return len(self._known)

    def clear(self) -> None:
        self._known.clear()
        self._held = 0


def read_template(raw: bytes) -> Task[Any]:
    """The task in a serialized template. Raises InvalidTask, and RecursionError or OverflowError
    for what is nested too deeply or too long."""
    template = TaskTemplate.FromString(raw)
    container = None
    if template.HasField("container"):
        c = template.container
        env = {pair.key: pair.value for pair in c.env}
        container = Container(c.image, tuple(c.command), tuple(c.args), env)
    timeout = template.metadata.timeout.ToTimedelta()
    return Task(
        type=template.type,
        config={**template.config, **from_struct(template.custom)},
        key=Key(""),
        fingerprint=Fingerprint(""),
        identity=_NOBODY,
        statement=template.sql.statement,
        interface=decode_variables(template.interface.inputs),
        declared=decode_variables(template.interface.outputs),
        timeout=timeout if timeout > timedelta(0) else None,
        retries=template.metadata.retries.retries,
        runtime=template.metadata.runtime.version,
        container=container,
    )


def memory_of(value: object, enough: float = inf) -> int:
    """Bytes of memory that plain values, lists, dicts and dataclasses take at most, with all that
    is in them: what they share is counted with each. Counts no further than a little over `enough`,
    since to count all may take longer than the reading did."""
    size = 0
    # No recursion: it would take more of Python's stack than the reading did.
    left = [value]
    while left and size <= enough:
        one = left.pop()
        size += getsizeof(one)
        kind = type(one)
        if kind is dict:
            left += one  # type: ignore[arg-type] # its keys
            left += one.values()  # type: ignore[attr-defined]
        elif kind is list or kind is tuple:
            left += one  # type: ignore[arg-type]
        elif kind not in _PLAIN and not isinstance(one, Enum):
            left.append(vars(one))
    return size


_PLAIN = frozenset((str, bytes, int, float, bool, type(None), timedelta))
