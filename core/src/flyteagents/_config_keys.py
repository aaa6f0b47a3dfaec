"""Keys of a task's config that its agent does not know, in sentences for whoever wrote them.

A misspelt key changes nothing, so the task succeeds and its author never learns why it was not as
asked. The agent's own model says which keys there are.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Collection, Iterable, Iterator

from pydantic import AliasChoices, AliasPath, BaseModel

LOOKED_AT, LONG = 5, 100
"""Unknown keys whose nearest known one is looked for, and characters of a key that are looked at: a
task may bring thousands, or one of megabytes, and a look takes the server's loop a millisecond."""


@functools.cache
def key_names(model: type[BaseModel]) -> frozenset[str]:
    """The keys that a model reads, under all their names."""
    by_name = model.model_config.get("populate_by_name") or model.model_config.get(
        "validate_by_name"
    )
    names: set[str] = set()
    for name, field in model.model_fields.items():
        aliases = set(_spellings(field.validation_alias or field.alias))
        names |= aliases | {name} if by_name or not aliases else aliases
    return frozenset(names)


def do_nothing(
    keys: Iterable[str], known: Collection[str], *, where: str = "the task's config"
) -> list[str]:
    """A sentence for each of `keys`, which nobody reads; for the first of them with the nearest of
    the `known` ones."""
    return [
        f"{key!r} in {where} is not known and does nothing{_meant(key, known) if near else ''}"
        for key, near in looked_at(keys)
    ]


def looked_at(keys: Iterable[str]) -> list[tuple[str, bool]]:
    """Keys in order, cut, and whether to look for what each of them was meant to be."""
    return [(key[:LONG], place < LOOKED_AT) for place, key in enumerate(sorted(keys))]


def _meant(key: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _spellings(alias: object) -> Iterator[str]:
    if isinstance(alias, str):
        yield alias
    elif isinstance(alias, AliasPath):
        yield str(alias.path[0])
    elif isinstance(alias, AliasChoices):
        for choice in alias.choices:
            yield from _spellings(choice)
