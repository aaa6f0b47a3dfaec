"""Python values in a vendor's own forms."""

from __future__ import annotations

import json
from collections.abc import Callable

from flyteagents import InvalidTask

__all__ = ["json_text"]


def json_text(value: object, plain: Callable[[object], object]) -> str:
    """Compact JSON. `plain` makes JSON of what has no form of its own there, and raises TypeError
    for what has none.

    Its keys are sorted: a map's order is another one in each request, and a vendor's cache takes
    only the same text for the same. Raises InvalidTask, also for NaN and infinity.
    """
    try:
        return json.dumps(
            value,
            separators=(",", ":"),
            sort_keys=True,
            ensure_ascii=False,
            allow_nan=False,
            default=plain,
        )
    except (ValueError, TypeError) as error:
        raise InvalidTask(f"a value does not fit JSON: {error}") from None
