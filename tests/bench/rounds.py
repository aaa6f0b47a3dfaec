"""Rounds in which the compared servers take turns, and what is printed of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from tests.bench.page import PAGE
from tests.bench.processes import Process

Figures = dict[str, float]
Round = Callable[[Process], Figures]


def interleave(servers: Sequence[Process], rounds: int, one: Round) -> dict[str, list[Figures]]:
    """Each server in turn, again and again: what else the machine does meets all of them. A
    round more goes before and does not count."""
    measured: dict[str, list[Figures]] = {server.name: [] for server in servers}
    for number in range(rounds + 1):
        # Every other round backwards, so that none always follows the same one.
        for server in servers if number % 2 else reversed(servers):
            before = server.cpu
            figures = one(server)
            if calls := figures.get("calls"):
                figures["cpu_s_per_1000"] = 1000 * (server.cpu - before) / calls
            figures["rss_mb"] = server.resident
            if number:
                measured[server.name].append(figures)
    return measured


def medians(rounds: Sequence[Figures]) -> Figures:
    return {name: median(each[name] for each in rounds) for name in rounds[0]}


def ratios(
    measured: Mapping[str, Sequence[Figures]], name: str, ours: str, theirs: str
) -> list[float]:
    """Ours to theirs in each round, which both had the same machine."""
    pairs = zip(measured[ours], measured[theirs], strict=True)
    return [mine[name] / its[name] for mine, its in pairs if its[name]]


def table(title: str, rows: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> None:
    """Print one table; a column is a figure's name."""
    width = max(map(len, rows))
    head = [_head(column) for column in columns]
    print(f"\n{title}\n{'':<{width}}" + "".join(f"{each:>13}" for each in head))
    shown = {}
    for name, figures in rows.items():
        cells = [f"{figures[c]:,.{_digits(c)}f}" if c in figures else "" for c in columns]
        shown[name] = cells
        print(f"{name:<{width}}" + "".join(f"{cell:>13}" for cell in cells))
    PAGE.table(title, head, shown)


def verdict(text: str, values: Sequence[float], expected: float = 0.0) -> dict[str, Any]:
    """Print a ratio, its spread over the rounds, and what was expected of it, if anything."""
    ratio = median(values)
    line = f"{text}: {ratio:.2f} times (rounds {min(values):.2f} to {max(values):.2f})"
    if expected:
        line += f"; asked for: {expected:g}" + ("" if ratio >= expected else ", **missed**")
    _say(line)
    return {"what": text, "ratio": ratio, "rounds": list(values), "expected": expected}


def told(text: str, value: float, at_least: float = 0.0, at_most: float = 0.0) -> None:
    """Print a figure, and what was expected of it."""
    missed = value < at_least if at_least else value > at_most
    limit = f"at least {at_least:g}" if at_least else f"at most {at_most:g}"
    _say(f"{text}: {value:,.2f}; asked for: {limit}" + (", **missed**" if missed else ""))


def _say(line: str) -> None:
    print(f"  {line}")
    PAGE.told(line)


_HEADS = {
    "rate": "calls/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "cpu_s_per_1000": "CPU s/1000",
    "rss_mb": "MB",
    "start_s": "start s",
    "start_cpu_s": "of it CPU s",
    "start_mb": "MB at start",
    "warm_mb": "MB then",
    "more_mb": "MB more",
    "spans_per_call": "spans/call",
    "requests_per_poll": "reqs/poll",
    "logins_per_poll": "logins/poll",
    "connections_per_poll": "conns/poll",
}


def _head(column: str) -> str:
    return _HEADS.get(column, column)


def _digits(column: str) -> int:
    if column in ("rate", "rss_mb", "start_mb", "warm_mb", "more_mb"):
        return 0
    return 3 if column in ("cpu_s_per_1000", "connections_per_poll", "logins_per_poll") else 2
