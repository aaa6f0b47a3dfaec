"""What a run found, as docs/benchmark.md shows it.

The page's prose is written by hand. Its tables, and what was reached or missed, stand between two
marks: all of them are of one run, and a command puts them there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

BEGIN, END = "<!-- Made by `make bench`, not by hand -->", "<!-- Up to here -->"


class Page:
    """The run's tables as Markdown, in the order in which they were measured."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def machine(self, facts: Mapping[str, str]) -> None:
        self._lines += [", ".join(f"{name} {value}" for name, value in facts.items())]

    def table(self, title: str, head: Sequence[str], rows: Mapping[str, Sequence[str]]) -> None:
        self._lines += ["", f"### {title}", ""]
        self._row(["", *head])
        self._row(["---"] * (len(head) + 1))
        for name, cells in rows.items():
            self._row([name, *cells])
        self._lines.append("")

    def told(self, text: str) -> None:
        self._lines.append(f"- {text}")

    def text(self) -> str:
        return "\n".join(self._lines).strip() + "\n"

    def _row(self, cells: Sequence[str]) -> None:
        self._lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))


PAGE = Page()
"""Of this run."""


def put(figures: str, page: Path) -> None:
    """Put a run's figures into the page."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"{page} has no {BEGIN}"
    assert end, f"{page} has no {END}"
    page.write_text(f"{before}{begin}\n\n{figures}\n{end}{after}")
