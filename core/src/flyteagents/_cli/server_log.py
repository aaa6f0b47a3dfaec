"""The log of the server that `flyteagents run` starts for itself."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from collections import deque
from pathlib import Path
from typing import IO, Any

from flyteagents._cli import screen

_COLOURS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
"""The levels that are shown."""
_VARYING = re.compile(r"\b(?:\d+|[0-9a-f]{8})\b")
"""What changes when something is said again: "poll 3 in a row failed", and the id of an error."""
_BUG = re.compile(r": poll (\d+) in a row failed: .* in get; error id [0-9a-f]+")
_FRAME = re.compile(r'  File "([^"]+)", line \d+')
_OURS = (str(Path(__file__).parents[1]), asyncio.__path__[0])
_BUGS = 3
"""Times that a poll may fail by a bug of the agent's before there is no sense in asking again."""
_PAUSE = 0.05
_KEPT = 40
"""Lines of the rest that are kept, for a server that ends badly."""


class ServerLog:
    """Follows a file of JSON lines. Warnings and errors go on to our standard error, each once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._at = 0
        self._shown: set[str] = set()
        self._kept: deque[str] = deque(maxlen=_KEPT)
        self._bug = ""
        self._failed = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    @property
    def rest(self) -> str:
        """The end of what was not shown; whole once it is closed."""
        return "\n".join(self._kept).strip()

    @property
    def bug(self) -> str | None:
        """What an agent raised in polls that it will not get over: no vendor's doing."""
        return self._bug if self._failed >= _BUGS else None

    def close(self) -> None:
        """Show what is left. The server has ended by now."""
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(_PAUSE)
            self._read(to_the_end=ended)

    def _read(self, to_the_end: bool) -> None:
        # The server writes at the file's own position, so that is left alone.
        size = os.fstat(self._file.fileno()).st_size
        new = os.pread(self._file.fileno(), size - self._at, self._at)
        whole = len(new) if to_the_end else new.rfind(b"\n") + 1
        self._at += whole
        for line in new[:whole].decode(errors="replace").splitlines():
            self._take(line)

    def _take(self, line: str) -> None:
        record = _record(line)
        level = str(record.get("level"))
        trace = _authors(str(record.get("traceback", "")))
        text = f"{record.get('message')}\n{trace}".rstrip()
        if "error_id" in record and ": get raised " in text:
            # The traceback's last line names the exception too.
            said = str(record["message"]).partition(" raised ")[0]
            self._bug = f"{said} raised {trace.rpartition(chr(10))[2]}"
        elif bug := _BUG.search(text):  # the same one again, whose traceback was told before
            self._failed = int(bug[1])
        if level not in _COLOURS:
            self._kept.append(f"{level} {text}" if record else line)
        elif (gist := _VARYING.sub("#", text)) not in self._shown:
            self._shown.add(gist)
            screen.aside(f"server {level.lower()}: {text}", _COLOURS[level])


def _authors(trace: str) -> str:
    """A traceback without the frames of this package: what is wrong is in the agent."""
    kept, ours = [], False
    for line in trace.splitlines():
        if frame := _FRAME.match(line):
            ours = frame[1].startswith(_OURS)
        elif not line.startswith("    "):
            ours = False
        if not ours:
            kept.append(line)
    return "\n".join(kept)


def _record(line: str) -> dict[str, Any]:
    """What a line of the log says, nothing for one that something else wrote."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) and "message" in record else {}
