"""Keys of a task's config that an agent does not know, for its method `warnings`.

By default the kernel tells those that the agent's model has no field for. An agent needs more where
it passes keys on to its vendor, reads keys within keys, or knows a key that has no effect in the
task at hand.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from flyteagents._config_keys import do_nothing, key_names, looked_at

__all__ = ["do_nothing", "key_names", "passed_on", "without_effect"]


def passed_on(
    keys: Iterable[str], known: Collection[str], *, where: str = "the task's config"
) -> list[str]:
    """A sentence for each of `keys`, which the vendor gets as they are, that is a slip of a `known`
    one: the same but for one letter, or for capitals and underscores.

    Others are left alone: the vendor may have got a new key that nobody here has heard of.
    """
    return [
        f"{key!r} in {where} is not known to this agent and was passed on as it is; did you mean "
        f"{near!r}?"
        for key, looked in looked_at(set(keys) - set(known))
        if looked and (near := next((name for name in sorted(known) if _is_slip(key, name)), None))
    ]


def without_effect(reasons: Mapping[str, str], *, where: str = "the task's config") -> list[str]:
    """A sentence for each key that is known, and that changes nothing in this task. reasons: why,
    by the key."""
    return [f"{key!r} in {where} does nothing: {why}" for key, why in sorted(reasons.items())]


def _is_slip(written: str, meant: str) -> bool:
    a, b = (text.lower().replace("_", "") for text in (written, meant))
    return a == b or _one_letter_apart(a, b)


def _one_letter_apart(a: str, b: str) -> bool:
    """Whether one letter was put in, left out or replaced, or two neighbours were swapped."""
    start = next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    if start is None:
        return abs(len(a) - len(b)) == 1
    a, b = a[start:], b[start:]
    if len(a) != len(b):
        return a[1:] == b or a == b[1:]
    return a[1:] == b[1:] or (a[1::-1] == b[:2] and a[2:] == b[2:])
