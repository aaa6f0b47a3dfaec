"""Shows a task while it runs: a live line on a terminal, a line for each change elsewhere.

Numbers in words (`1,200 rows`, `3.4 MiB`) are made here for all that `run` prints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from flyteagents._cli.screen import bytes_in_words, console
from flyteagents._client.rpc import Rpc
from flyteagents._kernel.answers import CANCELLED
from flyteagents._status import Phase

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_STEP = 0.1
"""Progress that is worth a line of its own."""
_QUIET, _LONGER = 2.0, 1.5
"""Seconds after which there is a line all the same, and what they grow by with each: a job of an
hour has some twenty such lines."""
_ELSEWHERE = ("progress", "state", "result", CANCELLED)
"""What the bar, the phase and the outputs show."""
_ADDRESS = re.compile(r"ipv[46]:\S+: ")
"""What gRPC says of a server that is away names each of its addresses in turn."""


class _Notes:
    """Notes on their way to `write`. One that comes again and again, as while a server is away, is
    counted."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._gist, self._again = "", 0

    def take(self, text: str) -> None:
        gist = _ADDRESS.sub("", text)
        if gist == self._gist:
            self._again += 1
            return
        self.end()
        self._write(text)
        self._gist = gist

    def end(self) -> None:
        """Something else comes, or nothing any more."""
        times, self._again, self._gist = self._again, 0, ""
        if times:
            self._write(f"  (and {times} more like this)")


class LineWatch:
    """A line for each change, for pipes and logs, with how many polls were answered until then."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._last: tuple[str, int] | None = None
        self._links: set[str] = set()
        self._polls, self._next, self._pause = 0, 0.0, _QUIET
        self._notes = _Notes(self._write)

    def attempt(self, number: int, of: int) -> None:
        self._last, self._polls, self._next, self._pause = None, 0, 0.0, _QUIET
        if number > 1:
            self._print(f"attempt {number} of {of}")

    def answer(self, rpc: Rpc, seconds: float) -> None:
        for link in rpc.links:
            if link.uri not in self._links:
                self._links.add(link.uri)
                self._print(f"{link.name}: {link.uri}")
        share = progress(rpc)
        step = int((share or 0.0) / _STEP)
        self._polls += 1
        now = (rpc.phase_name, step)
        if now == self._last and seconds < self._next:
            return
        if now == self._last:
            self._pause *= _LONGER
        self._last, self._next = now, seconds + self._pause
        percent = "" if share is None else f" {share:4.0%}"
        told = [
            *filter(None, [details_of(rpc)]),
            f"{self._polls} poll{'' if self._polls == 1 else 's'}",
        ]
        self._print(f"{seconds:6.1f} s  {rpc.phase_name}{percent}  {', '.join(told)}")

    def note(self, text: str) -> None:
        self._notes.take(text)

    def _print(self, text: str) -> None:
        self._notes.end()
        self._write(text)

    def _write(self, text: str) -> None:
        # Not by rich, which ends the program where the reader has gone. Nor does a full disk end a
        # job; the result tells of it.
        with suppress(OSError):
            self._out.file.write(f"{text}\n")
            self._out.file.flush()

    def __enter__(self) -> LineWatch:
        return self

    def __exit__(self, *raised: object) -> None:
        self._notes.end()


class LiveWatch:
    """One line that moves: phase, bar, what the vendor tells, time."""

    def __init__(self, out: Console) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._progress: Progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[percent]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[details]}", markup=False, style="dim"),
            console=out,
        )
        self._task = self._progress.add_task("starting", total=None, percent="", details="")
        self._links: set[str] = set()
        self._of = ""
        self._notes = _Notes(self._above)

    def attempt(self, number: int, of: int) -> None:
        self._of = f" (attempt {number} of {of})" if number > 1 else ""
        self._progress.reset(self._task, total=None, description=f"CREATING{self._of}")

    def answer(self, rpc: Rpc, seconds: float) -> None:
        self._notes.end()
        for link in rpc.links:
            if link.uri not in self._links:
                self._links.add(link.uri)
                self.note(f"{link.name}: {link.uri}")
        share = 1.0 if rpc.phase is Phase.SUCCEEDED else progress(rpc)
        self._progress.update(
            self._task,
            description=f"{rpc.phase_name}{self._of}",
            total=None if share is None else 1.0,
            completed=share or 0.0,
            percent="" if share is None else f"{share:4.0%}",
            details=details_of(rpc),
        )

    def note(self, text: str) -> None:
        self._notes.take(text)

    def _above(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> LiveWatch:
        self._progress.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._notes.end()
        self._progress.__exit__(kind, error, trace)


def watch(stderr: bool) -> LineWatch | LiveWatch:
    """The display that fits where it goes to."""
    out = console(stderr)
    live = out.is_terminal and not out.is_dumb_terminal
    return LiveWatch(out) if live else LineWatch(out)


def progress(rpc: Rpc) -> float | None:
    """The share that is done, 0 to 1, where the agent tells it."""
    share = rpc.info.get("progress")
    return min(max(float(share), 0.0), 1.0) if isinstance(share, int | float) else None


def details_of(rpc: Rpc) -> str:
    """What the agent tells while a job runs; at its end there is room for all of it below."""
    ended = rpc.phase is not None and rpc.phase.terminal
    return "" if ended else ", ".join(facts(rpc.info))


def facts(info: Mapping[str, Any]) -> Iterator[str]:
    """What the agent tells, as short texts: "120,000 rows", "3.4 MiB"."""
    for name, value in info.items():
        if name in _ELSEWHERE or isinstance(value, Mapping | list) or value in (None, "", 0):
            continue
        yield fact(name, value)


def fact(name: str, value: object) -> str:
    """One number or word with its name."""
    words = name.replace("_", " ")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{words}: {value}"
    words = words.replace("bytes", "").strip()
    return f"{quantity(name, value)} {_singular(words) if value == 1 else words}".strip()


def _singular(words: str) -> str:
    return " ".join(map(_one, words.split()))


def _one(word: str) -> str:
    """A noun's singular; a word that is one already, such as "status" or "ms", as it is."""
    if len(word) < 3 or not word.endswith("s") or word.endswith(("ss", "us", "is", "series")):
        return word
    return f"{word[:-3]}y" if word.endswith("ies") else word[:-1]


def quantity(name: str, value: object) -> str:
    """A number as people read it; what is no number as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if "bytes" in name:
        return bytes_in_words(value)
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"
