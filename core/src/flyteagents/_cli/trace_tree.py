"""The trace of a task as a tree, from the spans that a server sent over OTLP.

Only attributes that the server documents are read, so that the tree shows what any trace viewer
would; where spans come from is no concern of it.
"""

from __future__ import annotations

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
    come, such as those of a job that still runs, hang on the trace itself.
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

    def hang(tree: Tree, parent: str) -> None:
        for span in children.get(parent, ()):
            hang(tree.add(_line(span, begin)), span.span_id)

    title = Text.assemble(("trace ", "bold"), (trace_id, "bold cyan"), f"  {len(by_id)} spans")
    tree = Tree(title, guide_style="dim")
    hang(tree, "")
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


def _line(span: Span, begin: int) -> Text:
    from rich.text import Text

    failed = span.status == "ERROR"
    name = span.name.removeprefix("flyteidl.service.").removeprefix("flyteidl2.connector.")
    style = "red" if failed else {"SERVER": "green", "CLIENT": "magenta"}.get(span.kind, "cyan")
    if span.name.startswith("job "):
        style = "bold red" if failed else "bold"
    seconds = (span.end - span.start) / 1e9
    line = Text.assemble((name, style), f"  {_short(seconds)}")
    line.append(f"  +{(span.start - begin) / 1e9:.2f} s", "dim")
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


def _cut(text: str) -> str:
    return text if len(text) <= _MESSAGE else f"{text[:_MESSAGE]}..."


def _short(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
