"""Google's partial responses: the system parameter `fields`.

https://cloud.google.com/apis/docs/system-parameters
"""

from __future__ import annotations

from typing import Any

Mask = dict[str, Any]


def parse(text: str) -> Mask:
    """`a,b(c,d)` as nested dicts; an empty one takes all of it."""
    mask, rest = _list(text)
    if rest:
        raise ValueError(f"not a field mask: {rest!r} is left")
    return mask


def select(value: Any, fields: str) -> Any:
    """The part of a resource that `fields` asks for."""
    return _select(value, parse(fields))


def _list(text: str) -> tuple[Mask, str]:
    mask: Mask = {}
    while True:
        end = min((at for at in map(text.find, ",()") if at >= 0), default=len(text))
        name, text = text[:end], text[end:]
        if not name.isidentifier():
            raise ValueError(f"not a field: {name!r}")
        mask[name] = {}
        if text.startswith("("):
            mask[name], text = _list(text[1:])
            if not text.startswith(")"):
                raise ValueError("a parenthesis is left open")
            text = text[1:]
        if not text.startswith(","):
            return mask, text
        text = text[1:]


def _select(value: Any, mask: Mask) -> Any:
    if not mask:
        return value
    if isinstance(value, list):
        return [_select(item, mask) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: _select(value[name], part) for name, part in mask.items() if name in value}
