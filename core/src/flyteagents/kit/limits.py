"""The limit of time that a vendor's job gets."""

from __future__ import annotations

from datetime import timedelta

__all__ = ["time_limit"]

_GRACE = timedelta(minutes=2)


def time_limit(timeout: timedelta | None) -> timedelta | None:
    """The limit for the job of a task with this timeout (`task.timeout`), None for none.

    It is two minutes longer: Flyte's own timeout can be retried and so should come first; the
    job's only cleans up.
    """
    return None if timeout is None else timeout + _GRACE
