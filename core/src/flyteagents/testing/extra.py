"""What to install for the parts that need pytest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs_extra(module: str) -> Iterator[None]:
    """Turn a missing pytest into an ImportError that says what to install."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"{module} needs {error.name}; install the extra: pip install 'flyteagents[testing]', "
            "or from a checkout: pip install './core[testing]'",
            name=error.name,
        ) from None
