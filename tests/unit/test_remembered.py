"""What is remembered by texts that come over the wire: only where they are short."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from flyteagents import Forbidden, Kind, Type, _tenants
from flyteagents._kernel import keys
from flyteagents._telemetry.otlp import Encoder
from flyteagents._vendor import hosts
from flyteagents._wire import types

LONG = "x" * 20_000


def long_types() -> None:
    declared = {LONG: Type(Kind.INTEGER)}
    assert types.load_types(types.dump_types(declared)) == declared


def refused_host() -> None:
    with pytest.raises(Forbidden):
        hosts.check_host(LONG, ["*.vendor.example"])


def refused_types() -> None:
    nothing = b"\0\0\0\xff\xff" * 100_000  # blocks of a stream, with nothing in them
    with pytest.raises(ValueError, match="more than"):
        types.load_types(base64.b85encode(nothing + b"\3\0").decode())


@pytest.mark.parametrize(
    ("cache", "ask"),
    [
        (_tenants._fits, lambda: _tenants.fits_tenant("*/*", LONG, "d")),
        (_tenants._fits, lambda: _tenants.fits_tenant("*/*", "p", LONG)),
        (keys._number, lambda: keys.attempt_number(f"{LONG}/3") == 3),
        (hosts._allowed, refused_host),
        (types._dump, long_types),
        (types.load_types, refused_types),
    ],
)
def test_a_long_text_is_answered_and_not_remembered(cache: Any, ask: Callable[[], object]) -> None:
    before = cache.cache_info().currsize
    assert ask() in (True, None)
    assert cache.cache_info().currsize == before


def test_a_long_attribute_of_a_span_is_not_remembered() -> None:
    encoder = Encoder()
    assert encoder._all({"flyte.project": LONG})
    assert not encoder._attributes
    assert encoder._all({"flyte.project": "p"})
    assert len(encoder._attributes) == 1
