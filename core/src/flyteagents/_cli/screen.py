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

WIDE = 160
"""Columns where no terminal says how many there are: a pipe takes whole lines."""


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
    """Print rows under headings."""
    _table(columns, rows, headed=True)


def pairs(rows: Iterable[tuple[str, object]]) -> None:
    """Print names with their values."""
    _table(("", ""), list(rows), headed=False)


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]], headed: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    made = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=headed
    )
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        # rich would take brackets in a plain string for markup.
        made.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console().print(made)


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
