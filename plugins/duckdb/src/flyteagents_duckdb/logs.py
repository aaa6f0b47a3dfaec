"""Pages of a job's log."""

from __future__ import annotations

from datetime import datetime

from flyteagents import LogLine, LogPage
from flyteagents_duckdb_job.directory import JobDirectory

PAGE = 1 << 18
"""Bytes of a page, at most."""


def read_page(job: JobDirectory, offset: int, lines: int) -> LogPage:
    """Whole lines from a byte offset on. The token is the next offset, empty at the end of a log
    to which nothing will be added."""
    over = job.ended() is not None  # looked at first: what is written before it is in the page
    try:
        with (job.path / "job.log").open("rb") as file:
            file.seek(offset)
            content = file.read(PAGE)
            last = not file.read(1)
    except FileNotFoundError:
        content, last = b"", True
    # A piece of a line is left to the next page, unless nothing else is there.
    whole = content[: content.rfind(b"\n") + 1] or (
        content if over or len(content) == PAGE else b""
    )
    kept = whole.splitlines(keepends=True)[: lines or None]
    after = offset + sum(map(len, kept))
    at_end = last and after - offset == len(content)
    return LogPage([_line(line) for line in kept], "" if over and at_end else str(after))


def _line(raw: bytes) -> LogLine:
    text = raw.decode("utf-8", "replace").rstrip("\n")
    stamp, _, rest = text.partition(" ")
    try:
        return LogLine(rest, datetime.fromisoformat(stamp), system=True)
    except ValueError:
        return LogLine(text)
