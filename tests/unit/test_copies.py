from __future__ import annotations

from dataclasses import replace

from flyteagents import Identity, Key
from flyteagents._kernel.copies import copied


def test_a_copy_is_what_replace_makes() -> None:
    who = Identity(project="p", labels={"a": "b"})
    assert copied(who, domain="d", attempt=2) == replace(who, domain="d", attempt=2)
    assert who == Identity(project="p", labels={"a": "b"})
    assert hash(copied(Key("0"), hex="1")) == hash(Key("1"))
