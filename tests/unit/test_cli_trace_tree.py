"""The tree of a trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from rich.console import Console

from flyteagents._cli.trace_tree import statistics, trace_tree

SECOND = 1_000_000_000


@dataclass(frozen=True)
class Sent:
    name: str
    span_id: str
    parent_id: str
    start: int
    end: int
    kind: str = "INTERNAL"
    status: str = "UNSET"
    message: str = ""
    trace_id: str = "t1"
    attributes: Mapping[str, Any] = field(default_factory=dict)


ROOT = Sent(
    "job acme",
    "r",
    "",
    0,
    3 * SECOND,
    attributes={"flyte.phase": "SUCCEEDED", "flyte.job.rows": 1200},
)
SPANS = [
    Sent("flyteidl.service.AsyncAgentService/GetTask", "g2", "r", 2 * SECOND, 3 * SECOND, "SERVER"),
    Sent("flyteidl.service.AsyncAgentService/GetTask", "g1", "r", SECOND, 2 * SECOND, "SERVER"),
    Sent("get acme", "o1", "g1", SECOND, 2 * SECOND),
    Sent("GET", "h1", "o1", SECOND, 2 * SECOND, "CLIENT", "ERROR", "x" * 500),
    ROOT,
    ROOT,
    Sent("elsewhere", "e", "", 0, 1, trace_id="t2"),
]


def drawn(spans: list[Sent]) -> list[str]:
    tree = trace_tree(spans, "t1")
    out = StringIO()
    Console(file=out, width=200).print(tree)
    return out.getvalue().splitlines()


def test_spans_hang_on_their_parents_in_the_order_of_time() -> None:
    lines = drawn(SPANS)
    assert "5 spans" in lines[0]
    names = [line.lstrip("│├└─ ").split("  ")[0] for line in lines[1:]]
    assert names == [
        "job acme",
        "AsyncAgentService/GetTask",
        "get acme",
        "GET",
        "AsyncAgentService/GetTask",
    ]
    depths = [line.index(name[0]) // 4 for line, name in zip(lines[1:], names, strict=True)]
    assert depths == [1, 2, 3, 4, 2]
    assert "3.00 s  +0.00 s  SUCCEEDED  1,200 rows" in lines[1]
    assert all(len(line) < 190 for line in lines)


def poll(number: int, *, status: str = "UNSET") -> list[Sent]:
    """A GetTask, its agent's call, and two requests of that one; each longer than the last."""
    start, end = number * SECOND, number * SECOND + number * SECOND // 10
    return [
        Sent("AsyncAgentService/GetTask", f"g{number}", "r", start, end, "SERVER"),
        Sent("get acme", f"o{number}", f"g{number}", start, end),
        Sent("GET", f"a{number}", f"o{number}", start, end, "CLIENT", status),
        Sent("GET", f"b{number}", f"o{number}", start, end, "CLIENT"),
    ]


def test_polls_that_look_alike_share_a_line_that_counts_them() -> None:
    spans = [ROOT, *poll(1), *poll(2), *poll(3), *poll(4, status="ERROR"), *poll(5)]
    lines = [line.lstrip("│├└─ ") for line in drawn(spans)]
    assert "21 spans" in lines[0]
    assert lines[2:5] == [
        "AsyncAgentService/GetTask x 3  100.0 ms to 300.0 ms  +1.00 s to +3.00 s",
        "get acme x 3  100.0 ms to 300.0 ms  +1.00 s to +3.00 s",
        "GET x 6  100.0 ms to 300.0 ms  +1.00 s to +3.00 s",
    ]
    # The one with a request that failed is not like the others.
    assert [line.split("  ")[0] for line in lines[5:]] == [
        "AsyncAgentService/GetTask",
        "get acme",
        "GET",
        "GET",
        "AsyncAgentService/GetTask",
        "get acme",
        "GET x 2",
    ]


def test_spans_whose_parent_has_not_come_are_shown_all_the_same() -> None:
    lines = drawn([span for span in SPANS if span is not ROOT])
    assert [line.startswith(("├── Async", "└── Async")) for line in lines].count(True) == 2


def test_another_trace_has_no_tree() -> None:
    assert trace_tree(SPANS, "t3") is None


def test_statistics_are_those_of_the_job() -> None:
    assert statistics(SPANS, "t1") == {"rows": 1200}
