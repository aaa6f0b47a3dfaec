"""How much code each layer holds, in tokens: `python -m tests.sizes`, or `make sizes`.

Tokens and not lines, so that room to breathe costs nothing. Comments, docstrings, line ends and
indentation do not count: reasons are free as well.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core" / "src" / "flyteagents"

_FREE = frozenset(
    (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    )
)
_F_STRING_START = getattr(tokenize, "FSTRING_START", None)
_F_STRING_END = getattr(tokenize, "FSTRING_END", None)

SERVING = ("author's API", "_kernel", "_wire", "_vendor", "_telemetry")
"""The layers that run while jobs are served. The command line and the test kit do not."""


def tokens(source: str) -> int:
    """How many tokens of code `source` holds."""
    prose = _docstring_lines(source)
    found = 0
    inside = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        # An f-string is one token, as it was before Python 3.12 took it apart.
        if not inside and token.type not in _FREE and token.start[0] not in prose:
            found += 1
        inside += (token.type == _F_STRING_START) - (token.type == _F_STRING_END)
    return found


def _docstring_lines(source: str) -> set[int]:
    """The lines of texts that stand alone: docstrings, and what documents a constant."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        text = node.value if isinstance(node, ast.Expr) else None
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            found.update(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    return found


def layers() -> dict[str, Iterable[Path]]:
    """The files of each layer of the core, and of each plugin."""
    found: dict[str, Iterable[Path]] = {"author's API": sorted(CORE.glob("*.py"))}
    for folder in sorted(path for path in CORE.iterdir() if path.is_dir()):
        if found_here := sorted(folder.rglob("*.py")):
            found[folder.name] = found_here
    for folder in sorted((ROOT / "plugins").iterdir()):
        found[f"plugin {folder.name}"] = sorted(folder.rglob("src/**/*.py"))
    return found


def sizes() -> dict[str, int]:
    """Layer to its number of tokens."""
    return {
        name: sum(tokens(path.read_text()) for path in paths) for name, paths in layers().items()
    }


def main() -> None:
    """Print the table."""
    measured = sizes()
    for name, size in measured.items():
        print(f"{name:20} {size:7,}")
    print(f"{'what serves':20} {sum(measured[name] for name in SERVING):7,}")


if __name__ == "__main__":
    main()
