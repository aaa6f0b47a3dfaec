"""Pages of a job's log."""

from __future__ import annotations

from datetime import datetime

from flyteagents import LogLine, LogPage
from flyteagents.kit.pages import page
from flyteagents_duckdb_job.directory import JobDirectory

PAGE = 1 << 18
"""Bytes of a page, at most."""
BEFORE = 1 << 14
"""Bytes that are looked at before a page, which may begin within a private key: more than one has.
"""


def read_page(job: JobDirectory, offset: int, lines: int) -> LogPage:
    """Whole lines from a byte offset on. The token is the next offset, empty at the end of a log
    to which nothing will be added."""
    over = job.ended() is not None  # looked at first: what is written before it is in the page
    try:
        with (job.path / "job.log").open("rb") as file:
            file.seek(max(offset - BEFORE, 0))
            before = file.read(min(offset, BEFORE))
            content = file.read(PAGE)
            last = not file.read(1)
    except FileNotFoundError:
        before, content, last = b"", b"", True
    # A piece of a line is left to the next page, unless nothing else is there.
    whole = content[: content.rfind(b"\n") + 1] or (
        content if over or len(content) == PAGE else b""
    )
    kept = whole.splitlines(keepends=True)[: lines or None]
    after = offset + sum(map(len, kept))
    at_end = last and after - offset == len(content)
    earlier = before.splitlines(keepends=True)
    read = [_line(line) for line in (*earlier, *kept)]
    shown = page(read, str(len(earlier)), len(kept)).lines if kept else ()
    return LogPage(shown, "" if over and at_end else str(after))


def _line(raw: bytes) -> LogLine:
    text = raw.decode("utf-8", "replace").rstrip("\n")
    stamp, _, rest = text.partition(" ")
    try:
        return LogLine(rest, datetime.fromisoformat(stamp), system=True)
    except ValueError:
        return LogLine(text)
