"""What the commands print with: text for people, JSON for scripts, errors to stderr."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 1000
"""Columns where no terminal says how many there are: a pipe takes whole lines."""
_GAP = "  "
"""Between two columns."""


def console(stderr: bool = False) -> Console:
    """rich's console: plain text in a pipe."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=WIDE)


def colour() -> bool | None:
    """False where the user wants none (no-color.org) or the terminal has none; None lets a
    terminal have it and a pipe not."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under headings. No value is broken: on a terminal that is too narrow, columns that
    do not fit go below their row, each on a line of its own."""
    out = console()
    cells = [[_one_line(cell) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(columns, *cells, strict=True)]
    fit = len(columns)
    while fit > 1 and out.is_terminal and sum(widths[:fit]) + len(_GAP) * (fit - 1) > out.width:
        fit -= 1

    _line(out, columns[:fit], widths, style="bold")
    for row in cells:
        _line(out, row[:fit], widths)
        for name, cell in zip(columns[fit:], row[fit:], strict=True):
            if cell:
                _line(out, [f"  {name.lower()}: {cell}"])


def pairs(rows: Iterable[tuple[str, object]]) -> None:
    """Print names with their values; long ones are wrapped at words on a terminal."""
    from rich.table import Table
    from rich.text import Text

    out, cells = console(), [(name, "" if cell is None else str(cell)) for name, cell in rows]
    if not out.is_terminal:
        width = max((_width(name) for name, _ in cells), default=0)
        for pair in cells:
            _line(out, pair, [width])
        return
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    made.add_column()
    made.add_column(overflow="fold")
    for name, cell in cells:
        # rich would take brackets in a plain string for markup.
        made.add_row(Text(name), Text(cell))
    out.print(made)


def say(text: str) -> None:
    """Print a sentence: wrapped at words on a terminal, one line in a pipe."""
    from rich.text import Text

    out = console()
    out.print(Text(text), soft_wrap=not out.is_terminal)


def _line(
    out: Console, cells: Sequence[str], widths: Sequence[int] = (), *, style: str = ""
) -> None:
    """Cells beside each other; the last one is not padded."""
    from rich.text import Text

    padded = [
        cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=False)
    ]
    line = _GAP.join([*padded[: len(cells) - 1], *cells[-1:]])
    # A `Text` without control characters: a cell may come from anybody's data.
    out.print(Text(line.rstrip(), style=style), soft_wrap=True)


def _width(text: str) -> int:
    """Columns that it takes: some letters take two."""
    from rich.cells import cell_len

    return cell_len(text)


def _one_line(cell: object) -> str:
    return "" if cell is None else " ".join(str(cell).splitlines())


def print_json(document: object) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(document, indent=2, default=_plain, ensure_ascii=False))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What follows an unknown word: the nearest one that there is, if any is near."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def fail(code: int, message: str) -> NoReturn:
    """End with an exit code and a message that says what to do."""
    click.echo(f"flyteagents: {message}", err=True)
    sys.exit(code)


def aside(text: str, shade: str) -> None:
    """Say something on stderr while a live line may be on the terminal. Any thread may."""
    # The live line catches what is written to `sys.stderr`, and prints it above itself. That is
    # right on a terminal only: what is redirected has to stay apart.
    real = sys.__stderr__
    apart = real is not None and not real.isatty()
    click.secho(text, fg=shade, file=real if apart else sys.stderr, color=colour())


def bytes_in_words(number: float) -> str:
    """1536 as "1.5 KiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
