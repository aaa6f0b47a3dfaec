"""The public surface, and the sizes that the project holds itself to."""

from __future__ import annotations

import ast
import inspect
import io
import tokenize
from pathlib import Path

import pytest

import flyteagents

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core" / "src" / "flyteagents"
SURFACE = set(
    """
    API Agent AgentError Binary Blob Call Column CommaList Container Endpoint Fingerprint Forbidden
    Idempotency Identity InvalidTask Job JobConflict JobNotFound Key Kind Link LogLine LogPage
    Metric MetricsQuery Name Phase Reply Schema Settings Status StructuredDataset SyncAgent Task
    Throttled Type Unauthenticated Unavailable Unsupported VendorError hookimpl
    """.split()  # noqa: SIM905 # read at a glance
)
# Lines of code that what serves may have. They may shrink; to raise one takes a reason.
SIZES = {
    "author's API": 485,
    "_kernel": 1810,
    "_wire": 830,
    "_vendor": 460,
    "_telemetry": 620,
}


def test_authors_get_these_names_and_no_others() -> None:
    assert sorted(flyteagents.__all__) == sorted(SURFACE)
    assert {name for name in SURFACE if not hasattr(flyteagents, name)} == set()


@pytest.mark.parametrize(
    "name", sorted(SURFACE - {"API", "CommaList", "Idempotency", "Name", "hookimpl"})
)
def test_everything_public_says_what_it_is(name: str) -> None:
    documented = inspect.getdoc(getattr(flyteagents, name)) or ""
    assert len(documented) > 20, f"flyteagents.{name} has no docstring"


@pytest.mark.parametrize(
    "path",
    [p for folder in ("plugins", "examples") for p in sorted((ROOT / folder).rglob("*.py"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_plugins_and_examples_use_the_public_names_only(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        module = node.module if isinstance(node, ast.ImportFrom) else None
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for imported in filter(None, [module, *names]):
            private = imported.startswith("flyteagents._")
            assert not private, f"{path.name} imports {imported}, which may change any day"


def test_no_module_is_too_long_to_be_held_in_mind() -> None:
    sources = [
        *CORE.rglob("*.py"),
        *(ROOT / "plugins").rglob("*.py"),
        *(ROOT / "tests").rglob("*.py"),
    ]
    long = {str(p.relative_to(ROOT)): n for p in sources if (n := lines(p)) > 400}
    assert not long


@pytest.mark.parametrize(("layer", "limit"), SIZES.items())
def test_each_layer_of_what_serves_stays_within_its_size(layer: str, limit: int) -> None:
    folder = CORE if layer == "author's API" else CORE / layer
    sources = folder.glob("*.py") if folder is CORE else folder.rglob("*.py")
    size = sum(code_lines(path.read_text()) for path in sources)
    assert size <= limit, f"{layer} has {size} lines of code"


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def code_lines(source: str) -> int:
    """Lines that hold code: no blank lines, comments or docstrings."""
    kept: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT,
                              tokenize.DEDENT, tokenize.ENDMARKER):  # fmt: skip
            kept.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        text = node.value if isinstance(node, ast.Expr) else None
        if isinstance(text, ast.Constant) and isinstance(text.value, str) and text.end_lineno:
            kept.difference_update(range(text.lineno, text.end_lineno + 1))
    return len(kept)
