"""The trace of a task as a tree, from the spans that a server sent over OTLP.

Only attributes that the server documents are read, so that the tree shows what any trace viewer
would; where spans come from is no concern of it. A long job has hundreds of polls that say the
same, so spans that follow each other and look alike share a line, which says how many they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from flyteagents._cli.watching import fact

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

_STATISTICS = "flyte.job."
_MESSAGE = 100


class Span(Protocol):
    """What is needed of a span; `flyteagents.testing.otlp.ReceivedSpan` has it."""

    @property
    def name(self) -> str: ...
    @property
    def trace_id(self) -> str: ...
    @property
    def span_id(self) -> str: ...
    @property
    def parent_id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def attributes(self) -> Mapping[str, Any]: ...


def trace_tree(spans: Sequence[Span], trace_id: str) -> Tree | None:
    """All spans of one trace, oldest first; None when there are none.

    A span that came twice (the job's own span may) is shown once. Spans whose parent has not
    come, such as those of a job that still runs, hang on the trace itself. Alike are siblings of
    one name, status and text, with nothing below them that differs.
    """
    from rich.text import Text
    from rich.tree import Tree

    by_id = {span.span_id: span for span in spans if span.trace_id == trace_id}
    if not by_id:
        return None
    children: dict[str, list[Span]] = {}
    for span in sorted(by_id.values(), key=lambda each: each.start):
        parent = span.parent_id if span.parent_id in by_id else ""
        children.setdefault(parent, []).append(span)
    begin = min(span.start for span in by_id.values())

    def look(span: Span) -> object:
        below = tuple(map(look, children.get(span.span_id, ())))
        return span.name, span.kind, span.status, tuple(_said(span)), below

    def hang(tree: Tree, parents: Sequence[str]) -> None:
        """What is below all of these, which look alike."""
        # The first ones of all parents, then the second ones: those look alike too.
        beside = zip(*(children.get(parent, ()) for parent in parents), strict=True)
        for _, alike in itertools.groupby(itertools.chain(*beside), key=look):
            spans = list(alike)
            hang(tree.add(_line(spans, begin)), [span.span_id for span in spans])

    title = Text.assemble(("trace ", "bold"), (trace_id, "bold cyan"), f"  {len(by_id)} spans")
    tree = Tree(title, guide_style="dim")
    hang(tree, [""])
    return tree


def statistics(spans: Sequence[Span], trace_id: str) -> dict[str, Any]:
    """The vendor's own numbers of the job, off the span that covers its life."""
    return {
        name[len(_STATISTICS) :]: value
        for span in spans
        if span.trace_id == trace_id
        for name, value in span.attributes.items()
        if name.startswith(_STATISTICS)
    }


def _line(spans: Sequence[Span], begin: int) -> Text:
    """One span, or several that look alike."""
    from rich.text import Text

    span = spans[0]
    failed = span.status == "ERROR"
    name = span.name.removeprefix("flyteidl.service.").removeprefix("flyteidl2.connector.")
    style = "red" if failed else {"SERVER": "green", "CLIENT": "magenta"}.get(span.kind, "cyan")
    if span.name.startswith("job "):
        style = "bold red" if failed else "bold"
    line = Text(name, style)
    if len(spans) > 1:
        line.append(f" x {len(spans)}", "bold")
    lengths = sorted((each.end - each.start) / 1e9 for each in spans)
    starts = [(each.start - begin) / 1e9 for each in spans]
    line.append(f"  {_range(_short(lengths[0]), _short(lengths[-1]))}", "")
    line.append(f"  {_range(f'+{starts[0]:.2f} s', f'+{starts[-1]:.2f} s')}", "dim")
    for text in _said(span):
        line.append(f"  {text}", "red" if failed else "dim")
    return line


def _said(span: Span) -> list[str]:
    attributes = span.attributes
    said = [
        str(attributes[name])
        for name in ("flyte.phase", "rpc.response.status_code", "http.response.status_code")
        if name in attributes
    ]
    if "url.full" in attributes:
        said.append(str(attributes["url.full"]))
    said += [
        fact(name[len(_STATISTICS) :], value)
        for name, value in attributes.items()
        if name.startswith(_STATISTICS)
    ]
    return [*said, _cut(span.message)] if span.message else said


def _range(first: str, last: str) -> str:
    return first if first == last else f"{first} to {last}"


def _cut(text: str) -> str:
    return text if len(text) <= _MESSAGE else f"{text[:_MESSAGE]}..."


def _short(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
