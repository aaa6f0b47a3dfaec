"""What this replica remembers of its statements: which it has sent, so that its own second send is
none of a first time, and which it saw fail, so that they are not asked for again. Losing it costs
one look, or one run, more."""

from __future__ import annotations

from collections import OrderedDict

from flyteagents import Key
from flyteagents_snowflake.job import SnowflakeJob

KEPT = 10_000


class Sent:
    """The latest keys."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, SnowflakeJob | None] = OrderedDict()

    def add(self, key: Key) -> None:
        """It is being sent."""
        self._keep(key, None)

    def failed(self, key: Key, job: SnowflakeJob) -> None:
        """Its statement has failed."""
        self._keep(key, job)

    def has(self, key: Key) -> bool:
        return key.hex in self._jobs

    def failure(self, key: Key) -> SnowflakeJob | None:
        """The statement of this key, if it was seen to fail."""
        return self._jobs.get(key.hex)

    def _keep(self, key: Key, job: SnowflakeJob | None) -> None:
        self._jobs[key.hex] = job
        self._jobs.move_to_end(key.hex)
        if len(self._jobs) > KEPT:
            self._jobs.popitem(last=False)
