"""Pages of a log that is in memory."""

from __future__ import annotations

from collections.abc import Sequence

from flyteagents import LogLine, LogPage
from flyteagents._status import lines_without_keys

__all__ = ["page"]


def page(lines: Sequence[LogLine], token: str, count: int) -> LogPage:
    """At most `count` lines, from the one that `token` numbers; "" is the first.

    A token that is no number is the first too: it comes over the wire. The last page has no
    next one, so use this for a log that is complete, or whose reader comes back to it. A private
    key that goes over several lines is masked, also in a page that has its middle alone.
    """
    start = int(token) if token.isascii() and token.isdigit() else 0
    end = start + max(count, 1)
    return LogPage(lines_without_keys(lines)[start:end], str(end) if end < len(lines) else "")
